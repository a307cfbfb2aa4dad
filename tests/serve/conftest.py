"""Servers for the tests of `tamias serve`: one for all, and others that end with their test."""

import signal
from pathlib import Path

import pytest
from server_process import FILMS, PICTURES, Server


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
