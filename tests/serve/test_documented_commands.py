import json
import re
import shlex
from urllib.parse import urlsplit

from server_process import FILMS, PICTURES, ROOT


def commands() -> list[list[str]]:
    """The curl commands of the document, as words."""
    text = (ROOT / "docs/serve.md").read_text()
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("curl ")]


def part(assignment: str) -> bytes:
    """Of a form; files stand for a picture of the tests."""
    name, value = assignment.split("=", 1)
    content = (
        (ROOT / "tests/data/io/images/progressive.jpg").read_bytes()
        if value.startswith("@")
        else value.encode()
    )
    return f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"


def ask(server, words: list[str], job: str):
    """What curl would do: only the options that the document uses."""
    method, headers, body, address = "GET", {}, None, None
    parts = []
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, value = next(rest).split(": ")
            headers[name] = value
        elif word == "-d":
            method, body = "POST", next(rest).encode()
        elif word == "-F":
            parts.append(next(rest))
        elif word != "-N":
            assert address is None and word.startswith("http://127.0.0.1:8188/"), word
            split = urlsplit(word)
            address = split.path + (f"?{split.query}" if split.query else "")
    if parts:
        method, body = "POST", b"".join(map(part, parts)) + b"--xx--"
        headers["Content-Type"] = "multipart/form-data; boundary=xx"
    return server.ask(method, address.replace("/ID", f"/{job}"), body, headers)


def test_the_commands_of_the_document_work(serve, picture_films, tmp_path):
    named = tmp_path / "Wan2.1-I2V-14B-480P"
    named.symlink_to(picture_films)
    server = serve(models=(PICTURES, FILMS, named))
    job, answers = None, []
    for words in commands():
        answer = ask(server, words, job)
        assert answer.status in (200, 202), (words, answer.body)
        answers.append(answer)
        if answer.headers["Content-Type"] == "application/json":
            job = json.loads(answer.body).get("id", job)
        if named.name in " ".join(words):  # of the size that the model has by default: no test waits for it
            server.ask("DELETE", f"/v1/jobs/{job}")
    assert len(answers) == 6
