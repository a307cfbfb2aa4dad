"""Whatever comes, the answer is clear and the server lives."""

import json
import subprocess
import sys

from server_process import JSON, PROMPT, ROOT, SMALL


def test_every_hostile_request_gets_a_clear_answer():
    """Some thousands of them, as the measurement sends them."""
    command = [sys.executable, ROOT / "bench/serve_load.py", "--only", "hostile"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)["hostile"]
    assert report["requests"] > 1000
    assert report["faults"] == []
    assert report["alive_after"]


def test_paths_and_methods_that_are_not_there(server):
    job = "img-" + "0" * 32
    for path in (
        "/nothing",
        "/v1",
        "/v1/jobs/1",
        f"/v1/jobs/{job}",
        f"/v1/jobs/{job}/events",
        "/v1/jobs/../jobs",
        f"/v1/jobs/{job}/content?index=999999999999999999999",
    ):
        answer = server.get(path)
        assert answer.status == 404, (path, answer)
        answer.error()
    for method, path in (
        ("PUT", "/v1/jobs"),
        ("DELETE", "/v1/models"),
        ("OPTIONS", "/"),
        ("GET", "/v1/videos"),
    ):
        assert server.ask(method, path).status == 405, (method, path)


def test_bodies_that_are_not_read(server):
    def status(headers, body=b"{}", path="/v1/images/generations"):
        answer = server.ask("POST", path, body, headers)
        answer.error()
        return answer.status

    assert status({}) == 415
    assert status({"Content-Type": "text/plain"}) == 415
    assert status({"Content-Type": "application/x-www-form-urlencoded"}, b"prompt=x") == 415
    assert status(JSON | {"Content-Encoding": "gzip"}) == 411
    assert status(JSON, b'{"prompt": "' + b"x" * (1 << 20) + b'"}') == 413
    assert status(JSON, json.dumps(SMALL | {"prompt": "x" * 9000}).encode()) == 400


def test_pages_of_other_sites_reach_nothing(server):
    """A name of theirs that leads to this machine, and what a browser sends without asking."""
    assert server.get("/v1/jobs", headers={"Host": "evil.example"}).error()["code"] == "wrong_host"
    assert server.get("/v1/jobs", headers={"Host": f"localhost:{server.port}"}).status == 200
    origin = {"Origin": "http://evil.example"}
    assert server.ask("POST", "/sdapi/v1/interrupt", b"", origin).status == 415
    assert "Access-Control-Allow-Origin" not in server.get("/v1/jobs", headers=origin).headers


def test_errors_show_no_path_of_this_machine(server):
    for fields in (
        {"profile": "/etc/passwd"},
        {"sparsity": {"attn.mbm": "etc"}},
        {"prompt": PROMPT, "size": "8x8"},
    ):
        answer = server.post("/v1/images/generations", SMALL | fields | {"wait": False})
        if answer.status != 202:
            answer.error()
