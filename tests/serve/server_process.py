"""What the tests of `tamias serve` share: a server process on a free port, and small, quick requests."""

import http.client
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# A shell ignores Ctrl-C for what it runs in the background, and the server keeps to that: tests send signals.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
ROOT = Path(__file__).parents[2]
PROGRAM = Path(os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias"))
PICTURES = ROOT / "models/demo-flux"
FILMS = ROOT / "models/demo-video"
PROMPT = "a large red circle at the center on a grey background"
# 64 image tokens and 3 steps: a fraction of a second.
SMALL = {"prompt": PROMPT, "size": "64x64", "steps": 3, "seed": 7}
# Too much for the patience of a server that stops: for what is to be caught under way.
LONG = {"prompt": PROMPT, "size": "128x128", "steps": 200, "profile": "off", "seed": 7}
SMALL_FILM = {"prompt": "a red star moving left", "size": "32x32", "frames": 5, "steps": 2, "seed": 7}
JSON = {"Content-Type": "application/json"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)

    def error(self) -> dict:
        """The error of the body, in the shape that every error has."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"] and "\n" not in error["message"], error
        assert "/work" not in error["message"] and str(ROOT) not in error["message"], error
        return error


class Server:
    """A running `tamias serve`, its results and jobs in `folder`."""

    def __init__(self, folder: Path, *arguments, models=(PICTURES,), key: str | None = None):
        self.folder = folder
        self.key = key
        command = [str(PROGRAM), "serve", "--listen", "127.0.0.1:0", "--output-dir", str(folder)]
        for model in models:
            command += ["--model", str(model)]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Threads wait asleep: spinning ones make runs of a second take a minute on a busy machine.
            env=os.environ | {"OMP_WAIT_POLICY": "passive"},
        )
        self.said = []
        while not self.said or not self.said[-1].startswith("serving on"):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            self.said.append(line.strip())
        self.port = int(self.said[-1].rsplit(":", 1)[1])

    def connect(self, timeout=60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body=None, headers=None, key=None) -> Answer:
        connection = self.connect()
        headers = dict(headers or {})
        key = self.key if key is None else key
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if isinstance(body, dict):
            body, headers = json.dumps(body), JSON | headers
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def get(self, path: str, **keywords) -> Answer:
        return self.ask("GET", path, **keywords)

    def post(self, path: str, body: dict, **keywords) -> Answer:
        return self.ask("POST", path, body, **keywords)

    def submit(self, **fields) -> str:
        """The id of a job that nobody waits for."""
        answer = self.post("/v1/images/generations", SMALL | fields | {"wait": False})
        assert answer.status == 202, answer.body
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        return answer.json()["id"]

    def job(self, job_id: str, **keywords) -> dict:
        return self.get(f"/v1/jobs/{job_id}", **keywords).json()

    def wait(self, job_id: str, *states: str, timeout=60, **keywords) -> dict:
        """The job once it is in one of the states (default: has ended)."""
        states = states or ("completed", "failed", "cancelled")
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            job = self.job(job_id, **keywords)
            if job["status"] in states:
                return job
            time.sleep(0.02)
        raise AssertionError(f"{job_id} is {job['status']}, not {states}")

    def events(self, job_id: str):
        """(name, data) of each event until the job has ended."""
        connection = self.connect()
        connection.request("GET", f"/v1/jobs/{job_id}/events")
        response = connection.getresponse()
        assert response.status == 200 and response.getheader("Content-Type") == "text/event-stream"
        name = None
        for line in response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)
        connection.close()

    def stop(self, number=signal.SIGTERM, timeout=30) -> int:
        """Sends the signal, if any; returns the exit status."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        self.said += self.process.stdout.read().splitlines()
        self.errors = self.process.stderr.read()
        return self.process.wait(timeout)


def refused(*arguments) -> str:
    """The one line that a server which does not start ends with."""
    result = subprocess.run(
        [str(PROGRAM), "serve", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode in (1, 2) and not result.stdout, result
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("tamias: error: ")]
    return line
