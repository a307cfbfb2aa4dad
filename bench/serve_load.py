#!/usr/bin/env python3
"""`tamias serve` under load and under kill -9, with the demo model at 64x64 and one step.

    bench/serve_load.py [--clients 100] [--seconds 300] [--keys 4] [--kills 50]
                        [--only one|many|killed|hostile]

Four parts: one client, for the time of an answer beyond its generation; many clients of several keys at
once, for loss, fairness and memory; submissions while the server is killed at random moments, for loss;
requests that no client of good will sends, for a clear answer to each."""

import argparse
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hostile_requests import HostileRequest, hostile_requests

ROOT = Path(__file__).parents[1]
TINY = {"prompt": "a large red circle at the center on a grey background", "size": "64x64", "steps": 1}


class Server:
    def __init__(self, folder: Path, *arguments: str):
        program = os.environ.get("TAMIAS_PROGRAM", ROOT / "build/release/tamias")
        command = [program, "serve", "--model", ROOT / "models/demo-flux", "--quiet"]
        command += ["--listen", "127.0.0.1:0", "--output-dir", folder, *arguments]
        # Threads wait asleep: spinning ones are slow on a busy machine.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        while not (line := self.process.stdout.readline()).startswith("serving on"):
            if not line:
                sys.exit("the server did not start")
        self.port = int(line.rsplit(":", 1)[1])

    def ask(self, method: str, path: str, body: dict | None = None, key: str = "") -> tuple[int, dict, bytes]:
        """Status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        connection.request(method, path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        answer = response.status, dict(response.getheaders()), response.read()
        connection.close()
        return answer

    def job(self, job_id: str, key: str = "") -> dict:
        return json.loads(self.ask("GET", f"/v1/jobs/{job_id}", key=key)[2])

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self):
        self.process.kill()
        self.process.wait()


def measure_overhead(folder: Path, count: int) -> dict:
    """Milliseconds from request to answer, less the generation's own, of which the plan is told apart."""
    server = Server(folder)
    beyond = []
    for seed in range(count):
        begin = time.perf_counter()
        status, _, body = server.ask("POST", "/v1/images/generations", TINY | {"seed": seed})
        seconds = time.perf_counter() - begin
        assert status == 200, body
        beyond.append(1000 * (seconds - server.job(json.loads(body)["id"])["seconds"]["total"]))
    metrics = server.ask("GET", "/metrics")[2].decode()
    plan = float(re.search(r'stage_seconds_total{stage="plan"} (\S+)', metrics)[1])
    server.end()
    return {
        "requests": count,
        "median_ms": statistics.median(beyond),
        "of_it_planning_ms": 1000 * plan / count,
    }


class Client(threading.Thread):
    """Asks again and again, waiting for each picture; comes again when told to."""

    def __init__(self, server: Server, key: str, until: float, seed: int):
        super().__init__()
        self.server, self.key, self.until, self.seed = server, key, until, seed
        self.pictures, self.told_to_wait, self.others = [], 0, []

    def run(self):
        while time.monotonic() < self.until:
            status, headers, body = self.server.ask(
                "POST", "/v1/images/generations", TINY | {"seed": self.seed}, self.key
            )
            if status == 200:
                self.pictures.append(json.loads(body)["id"])
            elif status == 429:
                self.told_to_wait += 1
                time.sleep(min(float(headers["Retry-After"]), 2))
            else:
                self.others.append(status)


def run_many(folder: Path, num_clients: int, seconds: float, num_keys: int) -> dict:
    keys = [f"key-{i:02}-of-the-load" for i in range(num_keys)]
    folder.mkdir()
    (folder / "keys").write_text("\n".join(keys))
    server = Server(folder, "--api-key-file", str(folder / "keys"), "--max-queue", "64")
    until = time.monotonic() + seconds
    # The first key has as many clients as all others together.
    of_key = [0 if i % 2 else 1 + (i // 2) % (num_keys - 1) for i in range(num_clients)]
    clients = [Client(server, keys[k], until, seed) for seed, k in enumerate(of_key)]
    for client in clients:
        client.start()
    resident = []
    while time.monotonic() < until:
        time.sleep(min(5, seconds / 10))
        resident.append(server.resident_mib())
    for client in clients:
        client.join()
    lost = sum(server.job(job, c.key)["status"] != "completed" for c in clients for job in c.pictures)
    threads = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
    server.end()
    per_key = [
        sum(len(c.pictures) for c, k in zip(clients, of_key, strict=True) if k == i) for i in range(num_keys)
    ]
    return {
        "clients": num_clients,
        "seconds": seconds,
        "pictures": sum(per_key),
        "pictures_of_each_key": per_key,
        "clients_of_each_key": [of_key.count(i) for i in range(num_keys)],
        "told_to_come_again": sum(c.told_to_wait for c in clients),
        "other_answers": sum((c.others for c in clients), []),
        "lost": lost,
        "resident_mib": {"first": resident[0], "middle": resident[len(resident) // 2], "last": resident[-1]},
        "threads_at_the_end": threads,
    }


def run_kills(folder: Path, count: int) -> dict:
    source = random.Random(1)
    taken = []
    for _ in range(count):
        server = Server(folder, "--max-queue", "10000")
        until = time.monotonic() + source.uniform(0, 0.5)
        while time.monotonic() < until:
            status, _, body = server.ask(
                "POST", "/v1/images/generations", TINY | {"seed": len(taken), "wait": False}
            )
            assert status == 202, body
            taken.append(json.loads(body)["id"])
            time.sleep(source.uniform(0, 0.15))
        server.end()
    server = Server(folder, "--max-queue", "10000")
    ends = {}
    for job in taken:
        while (state := server.job(job))["status"] in ("queued", "in_progress"):
            time.sleep(0.05)
        end = state.get("error", {}).get("code", state["status"])
        ends[end] = ends.get(end, 0) + 1
    server.end()
    return {"kills": count, "jobs_acknowledged": len(taken), "ends": ends}


def send(port: int, request: HostileRequest) -> bytes:
    """What the server answers; nothing to a client that leaves."""
    half = len(request.data) // 2
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        answer = b""
        try:
            if request.leaves:
                connection.sendall(request.data[:half])
                return b""
            if request.pause:
                connection.sendall(request.data[:half])
                time.sleep(request.pause)
                connection.sendall(request.data[half:])
            else:
                connection.sendall(request.data)
            if request.ends:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has heard enough, and has answered
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


def fault_of(request: HostileRequest, answer: bytes) -> str:
    """What is not clear about an answer; empty: it is clear."""
    if request.leaves:
        return ""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    if not found:
        return "no answer"
    status = int(found[1])
    if status >= 500 and status != 503:
        return f"status {status}"
    if status < 400 or request.data.startswith(b"HEAD "):
        return ""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without an error in JSON"
    if set(error) != {"message", "type", "param", "code"} or not error["message"] or "\n" in error["message"]:
        return f"status {status} with an error of another shape"
    if str(ROOT) in error["message"]:
        return f"status {status} with a path of the server"
    return ""


def run_hostile(folder: Path) -> dict:
    requests = hostile_requests()
    limits = ["--max-steps", "1", "--max-pixels", "4096", "--max-queue", "10000"]
    server = Server(folder, "--model", str(ROOT / "models/demo-video"), *limits)
    with ThreadPoolExecutor(48) as threads:
        answers = list(threads.map(lambda request: send(server.port, request), requests))
    faults = [
        {
            "kind": request.kind,
            "request": repr(request.data[:200]),
            "fault": fault,
            "answer": repr(answer[:300]),
        }
        for request, answer in zip(requests, answers, strict=True)
        if (fault := fault_of(request, answer))
    ]
    health = server.ask("GET", "/health")[0]
    picture = server.ask("POST", "/v1/images/generations", TINY | {"seed": 1})[0]
    is_alive = server.process.poll() is None
    server.end()
    return {
        "requests": len(requests),
        "of_each_kind": dict(Counter(request.kind for request in requests)),
        "answers_by_status": dict(
            sorted(Counter(answer[9:12].decode() or "none" for answer in answers).items())
        ),
        "left_before_an_answer": sum(request.leaves for request in requests),
        "faults": faults,
        "alive_after": is_alive and (health, picture) == (200, 200),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--only", choices=["one", "many", "killed", "hostile"])
    options = parser.parse_args()
    if options.keys < 2:
        parser.error("--keys: expected at least 2")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "one": lambda: measure_overhead(folder / "one", 50),
            "many": lambda: run_many(folder / "many", options.clients, options.seconds, options.keys),
            "killed": lambda: run_kills(folder / "killed", options.kills),
            "hostile": lambda: run_hostile(folder / "hostile"),
        }
        for part, measure in parts.items():
            if options.only in (None, part):
                print(json.dumps({part: measure()}, indent=2), flush=True)


if __name__ == "__main__":
    main()
