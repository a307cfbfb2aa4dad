import json
import re
import shlex
from urllib.parse import urlsplit

from server_process import ROOT


def commands() -> list[list[str]]:
    """The curl commands of the document, as words."""
    text = (ROOT / "docs/serve.md").read_text()
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("curl ")]


def ask(server, words: list[str], job: str):
    """What curl would do: only the options that the document uses."""
    method, headers, body, address = "GET", {}, None, None
    rest = iter(words[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, value = next(rest).split(": ")
            headers[name] = value
        elif word == "-d":
            method, body = "POST", next(rest).encode()
        elif word != "-N":
            assert address is None and word.startswith("http://127.0.0.1:8188/"), word
            parts = urlsplit(word)
            address = parts.path + (f"?{parts.query}" if parts.query else "")
    return server.ask(method, address.replace("/ID", f"/{job}"), body, headers)


def test_the_commands_of_the_document_work(server):
    job, answers = None, []
    for words in commands():
        answer = ask(server, words, job)
        assert answer.status in (200, 202), (words, answer.body)
        answers.append(answer)
        if answer.headers["Content-Type"] == "application/json":
            job = json.loads(answer.body).get("id", job)
    assert len(answers) == 5
