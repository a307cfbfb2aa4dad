"""Servers for the tests of `tamias serve`: one for all, and others that end with their test."""

import signal
from pathlib import Path

import pytest
from server_process import FILMS, PICTURES, ROOT, Server


@pytest.fixture
def serve(tmp_path):
    """Starts servers that end with the test."""
    servers = []

    def start(*arguments, folder: Path | None = None, **keywords) -> Server:
        servers.append(Server(folder or tmp_path / "results", *arguments, **keywords))
        return servers[-1]

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server with both demo models for all tests that leave it as it was."""
    server = Server(tmp_path_factory.mktemp("serve") / "results", models=(PICTURES, FILMS))
    yield server
    assert server.process.poll() is None, "the server died"
    assert server.stop() == 0


@pytest.fixture(scope="session")
def picture_films(tmp_path_factory) -> Path:
    """A model whose films begin with a picture, random: Wan 2.1 image-to-video in small."""
    folder = tmp_path_factory.mktemp("model") / "tiny-wan-image"
    folder.mkdir()
    for path in (ROOT / "tests/data/pipeline/tiny-wan-image").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "tokenizer").symlink_to(PICTURES / "tokenizer_2")
    return folder
