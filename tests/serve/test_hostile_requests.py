"""Whatever comes, the answer is clear and the server lives."""

import json
import random
import socket

from server_process import JSON, PROMPT, SMALL

FIELDS = [
    *SMALL,
    "model",
    "n",
    "sparsity",
    "profile",
    "negative_prompt",
    "true_cfg_scale",
    "guidance_scale",
    "max_sequence_length",
    "response_format",
    "output_format",
    "output_compression",
    "wait",
]
VALUES = [
    None,
    True,
    -1,
    0,
    1e308,
    -0.0,
    2**64,
    10**30,
    "",
    "x" * 9000,
    "\u0000",
    "../../etc/passwd",
    "/etc/passwd",
    "%s%n",
    "'; DROP TABLE jobs; --",
    [],
    [[]],
    {},
    {"a": {"b": 1}},
    {"__proto__": 1},
    "\ud83d\ude00",
    1.5,
]


def bodies(count: int, seed: int = 1):
    """JSON with fields of other types, cut and damaged bytes, and depth."""
    random_source = random.Random(seed)
    for i in range(count):
        fields = SMALL | {"wait": False}
        for _ in range(random_source.randint(1, 3)):
            fields[random_source.choice(FIELDS)] = random_source.choice(VALUES)
        text = bytearray(json.dumps(fields).encode())
        if i % 3 == 1:
            del text[random_source.randrange(len(text)) :]
        if i % 3 == 2:
            for _ in range(3):
                text[random_source.randrange(len(text))] = random_source.randrange(256)
        yield bytes(text)
    yield b'{"prompt":' * 50_000
    yield b"[" * 400_000
    yield b'{"prompt": "' + b"\xff\xfe" + b'"}'
    yield b'{"prompt": 1' + b"0" * 100_000 + b"}"


def test_damaged_bodies_get_a_clear_answer(server):
    taken = []
    for body in bodies(300):
        answer = server.ask("POST", "/v1/images/generations", body, JSON)
        assert answer.status in (202, 400, 404, 413, 429), (body[:200], answer)
        if answer.status == 202:
            taken.append(answer.json()["id"])
            server.ask("DELETE", f"/v1/jobs/{taken[-1]}")
        else:
            answer.error()
    for job in taken:
        server.wait(job)
    assert len(taken) < 200


def test_damaged_films_and_web_ui_requests_get_a_clear_answer(server):
    for i, body in enumerate(bodies(60, seed=2)):
        path = ("/v1/videos", "/sdapi/v1/interrupt")[i % 2]
        answer = server.ask("POST", path, body.replace(b"64x64", b"7x7"), JSON)
        assert answer.status in (200, 400, 404, 413), (body[:200], answer)
    for body in (
        b"",
        b"[]",
        b'{"seed": -2}',
        b'{"width": 1e9}',
        b'{"batch_size": 8, "n_iter": 8}',
        b'{"width": 7}',
    ):
        answer = server.ask("POST", "/sdapi/v1/txt2img", body, JSON)
        assert answer.status == 400, (body, answer)
        answer.error()


POST = b"POST /v1/videos HTTP/1.1\r\nContent-Type: application/json\r\n"


def test_requests_that_are_none(server):
    random_source = random.Random(3)
    lines = [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"GET /v1/jobs/%00 HTTP/1.1\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
        b"GET /%2e%2e/etc HTTP/1.1\r\n\r\n",
        b"GET /%0a%0d HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nRange: bytes=" + b"9" * 8000 + b"-\r\n\r\n",
        b"GET / HTTP/1.1\r\nRange: bytes=99999999999999999999999-\r\n\r\n",
        b"GET / HTTP/1.1\r\nRange: bytes=" + b"0-1," * 1900 + b"0-1\r\n\r\n",
        POST + b"Content-Length: -5\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        *(bytes(random_source.randrange(256) for _ in range(200)) for _ in range(40)),
    ]
    for line in lines:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        if answer:
            assert answer.startswith(b"HTTP/1.1 "), answer[:100]
            assert not answer.startswith(b"HTTP/1.1 5"), (line[:100], answer[:300])
    assert server.get("/health").status == 200


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
