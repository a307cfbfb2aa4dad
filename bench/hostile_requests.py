"""Requests that no client of good will sends, as bytes for a socket: each different, always the same ones."""

import base64
import json
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass

PROMPT = "a large red circle at the center on a grey background"
PICTURE = {"prompt": PROMPT, "size": "64x64", "steps": 1, "seed": 7, "wait": False}
FILM = {"prompt": PROMPT, "size": "32x32", "frames": 1, "steps": 1, "seed": 7}
VALUES = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2**31,
    2**32,
    2**63,
    2**64,
    10**30,
    -(2**63),
    1e308,
    -0.0,
    1.5,
    5e-324,
    "",
    " ",
    "x" * 9000,
    "\u0000",
    "\ufffe\uffff",
    "\u202e\u200b",
    "\ud83d\ude00" * 3000,
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "%s%n%x",
    "${jndi:ldap://127.0.0.1/a}",
    "'; DROP TABLE jobs; --",
    "<script>alert(1)</script>",
    "1x1",
    "99999x99999",
    "-64x-64",
    "64x64x64",
    "data:image/png;base64,",
    [],
    [[]],
    [None] * 1000,
    {},
    {"a": {"b": 1}},
    {"__proto__": 1},
    {"attn.top_keys": "../x"},
]
FIELDS = (
    "prompt model size n response_format output_format output_compression seed steps profile sparsity "
    "negative_prompt true_cfg_scale guidance_scale max_sequence_length wait user quality colour"
).split()
FILM_FIELDS = (
    "prompt model size seed steps profile sparsity negative_prompt true_cfg_scale max_sequence_length "
    "seconds frames fps input_reference colour"
).split()
WEB_UI_FIELDS = "prompt width height steps seed cfg_scale batch_size n_iter override_settings".split()
PATHS = (
    "/ /health /metrics /openapi.json /v1/models /v1/jobs /v1/videos /v1/images/generations "
    "/sdapi/v1/txt2img /sdapi/v1/progress /sdapi/v1/interrupt /sdapi/v1/options"
).split()


@dataclass(frozen=True)
class HostileRequest:
    kind: str
    data: bytes
    pause: float = 0  # seconds before its second half
    leaves: bool = False  # closes its connection after the first half
    ends: bool = (
        True  # says that nothing more comes; one that waits for a picture would take that for leaving
    )


def _post(path: str, body: bytes, content_type="application/json", length: object = None) -> bytes:
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    return head.encode() + f"Content-Length: {length}\r\n\r\n".encode() + body


def _get(path: str, *headers: str, method="GET", version="HTTP/1.1") -> bytes:
    lines = [f"{method} {path} {version}", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


def _wrong_values() -> Iterator[HostileRequest]:
    for path, base, fields in (
        ("/v1/images/generations", PICTURE, FIELDS),
        ("/v1/videos", FILM, FILM_FIELDS),
        ("/sdapi/v1/txt2img", {"prompt": "x", "width": 64, "height": 64, "steps": 1}, WEB_UI_FIELDS),
    ):
        for field in fields:
            for value in VALUES:
                yield HostileRequest(
                    "wrong values", _post(path, json.dumps(base | {field: value}).encode()), ends=False
                )


def _damaged(source: random.Random) -> Iterator[HostileRequest]:
    for path, base in (("/v1/images/generations", PICTURE), ("/v1/videos", FILM)):
        text = json.dumps(base).encode()
        for size in range(0, len(text), 3):
            yield HostileRequest("cut bodies", _post(path, text[:size]))
            yield HostileRequest("cut requests", _post(path, text[:size], length=len(text)))
        for _ in range(60):
            damaged = bytearray(text)
            for _ in range(3):
                damaged[source.randrange(len(damaged))] = source.randrange(256)
            yield HostileRequest("damaged bodies", _post(path, bytes(damaged)))
        for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80" * 100):
            yield HostileRequest("bad UTF-8", _post(path, b'{"prompt": "' + bad + b'"}'))
            yield HostileRequest("bad UTF-8", _post(path, b'{"' + bad + b'": 1}'))


def _huge() -> Iterator[HostileRequest]:
    path = "/v1/images/generations"
    for body in (
        b'{"prompt":' * 50_000,
        b"[" * 400_000,
        b'{"prompt": 1' + b"0" * 100_000 + b"}",
        b'{"prompt": "' + b"x" * (1 << 20) + b'"}',
        b'{"prompt": "' + b"\\u0041" * 150_000 + b'"}',
        b"{" + b",".join(b'"k%d": 1' % i for i in range(60_000)) + b"}",
        b" " * (1 << 20),
    ):
        yield HostileRequest("huge", _post(path, body))
    for length in (1 << 20 | 1, 10**10, 2**63, 2**64, 10**30, "-5", "0x10", "1e3", " ", "5, 5", "five"):
        yield HostileRequest("huge", _post(path, b"{}", length=length))
        yield HostileRequest("huge", _post("/v1/videos", b"{}", length=length))
    yield HostileRequest("huge", _get("/" + "a" * 20_000))
    yield HostileRequest("huge", _get("/", "X: " + "y" * 100_000))
    yield HostileRequest("huge", _get("/", *["X: y"] * 20_000))
    yield HostileRequest("huge", _get("/v1/jobs?" + "&".join(f"a{i}=1" for i in range(2000))))


def _forms(source: random.Random) -> Iterator[HostileRequest]:
    boundary = "a-boundary"
    kind = f"multipart/form-data; boundary={boundary}"

    def part(name: str, content: bytes, more="") -> bytes:
        return (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
            + content
            + b"\r\n"
        )

    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    whole = (
        part("prompt", b"x")
        + part("input_reference", png, '; filename="../../x.png"')
        + f"--{boundary}--".encode()
    )
    for size in range(0, len(whole), 4):
        yield HostileRequest("forms", _post("/v1/videos", whole[:size], kind))
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        yield HostileRequest("forms", _post("/v1/videos", bytes(damaged), kind))
    end = f"--{boundary}--".encode()
    for name, content in (
        ("prompt", b"\xff\xfe"),
        ("prompt", b""),
        ("steps", b"1" * 5000),
        ("steps", b"[" * 5000),
        ("frames", b'{"a":1}'),
        ("input_reference", b""),
        ("input_reference", b"GIF89a"),
        ("input_reference", png[:40]),
        ("input_reference", b"\xff\xd8\xff" + b"\x00" * 500),
        ("input_reference", b"RIFF\xff\xff\xff\xffWEBPVP8 "),
        ("input_reference", b"\x89PNG\r\n\x1a\n" + b"\xff" * 64),
        ("", b"x"),
        ("x" * 5000, b"x"),
    ):
        yield HostileRequest(
            "forms", _post("/v1/videos", part("prompt", b"y") + part(name, content) + end, kind)
        )
    yield HostileRequest("forms", _post("/v1/videos", part("a", b"1") * 5000 + end, kind))
    for type_ in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 5000,
        "multipart/mixed; boundary=a-boundary",
        'multipart/form-data; boundary="',
    ):
        yield HostileRequest("forms", _post("/v1/videos", whole, type_))
    yield HostileRequest("forms", _post("/v1/images/generations", whole, kind))


def _headers() -> Iterator[HostileRequest]:
    for value in (
        "bytes=" + "9" * 8000 + "-",
        "bytes=99999999999999999999999-",
        "bytes=" + "0-1," * 1900 + "0-1",
        "bytes=-",
        "bytes=5-1",
        "lines=0-1",
        "bytes=0-18446744073709551615",
    ):
        for path in ("/", "/v1/jobs"):
            yield HostileRequest("headers", _get(path, f"Range: {value}"))
    for header in (
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Encoding: gzip",
        "Content-Encoding: br",
        "Content-Length: 3",
        "Content-Type: text/plain",
        "Expect: 100-continue",
        "Expect: 417-nothing",
        "Connection: upgrade\r\nUpgrade: websocket",
        "Connection: keep-alive",
        "Host: evil.example",
        "Origin: http://evil.example",
        "Authorization: Bearer",
        "Authorization: Basic eDp5",
        "Cookie: " + "a=b; " * 1000,
        "X-Forwarded-For: 127.0.0.1",
        "REMOTE_ADDR: 1.2.3.4",
        "Tamias-Form: multipart/form-data; boundary=x",
        "Last-Event-ID: -1",
        "\x00: \x00",
        ": no name",
        "no colon",
        " folded",
        "A" * 60_000 + ": b",
    ):
        yield HostileRequest("headers", _get("/v1/jobs", header))
        head = f"POST /v1/images/generations HTTP/1.1\r\nContent-Length: 2\r\n{header}\r\n\r\n"
        yield HostileRequest("headers", head.encode() + b"{}")
    yield HostileRequest(
        "headers", _post("/v1/videos", b"", length="0\r\nTransfer-Encoding: chunked") + b"ffffffff\r\n"
    )


def _request_lines(source: random.Random) -> Iterator[HostileRequest]:
    for method in (
        "PUT",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "FOO",
        "get",
        "G\x00T",
        "A" * 300,
        "DELETE",
        "HEAD",
    ):
        for path in PATHS:
            yield HostileRequest("methods", _get(path, method=method))
    job = "img-" + "0" * 32
    for path in (
        "",
        "//",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%00",
        "/%0a%0d",
        "/%zz",
        "/%",
        "/\\..\\..",
        "/v1/jobs/",
        "/v1/jobs//events",
        "/v1/jobs/../jobs",
        "/v1/jobs/img-" + "g" * 32,
        f"/v1/jobs/{job}x",
        f"/v1/jobs/{job}",
        f"/v1/jobs/{job}/content?index=-1",
        f"/v1/jobs/{job}/content?index=99999999999999999999",
        f"/v1/videos/{job}",
        f"/v1/videos/{job}/content",
        "/v1/jobs?limit=-1",
        "/v1/jobs?limit=1e9",
        "/v1/jobs?limit=" + "9" * 400,
        "/v1/jobs?after=' OR 1=1 --",
        "/v1/jobs?after=%00",
        "/v1/jobs?limit=1&limit=2",
        "http://evil.example/",
        "*",
        "/\xff\xfe",
        "/v1/models#x",
        "/V1/MODELS",
    ):
        for method in ("GET", "POST", "DELETE"):
            yield HostileRequest("paths", _get(path, method=method))
    for version in ("HTTP/9.9", "HTTP/1.0", "HTTP/0.9", "HTTP/2", "HTTP", "", "RTSP/1.0", "HTTP/1.1 x"):
        yield HostileRequest("versions", _get("/health", version=version))
    yield HostileRequest("no HTTP", b"\r\n\r\n")
    yield HostileRequest("no HTTP", b"GET\r\n\r\n")
    yield HostileRequest("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    yield HostileRequest("no HTTP", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    for _ in range(40):
        yield HostileRequest("no HTTP", bytes(source.randrange(256) for _ in range(200)))
    for _ in range(20):
        yield HostileRequest("no HTTP", "".join(source.choices(string.printable, k=300)).encode())


def _slow() -> Iterator[HostileRequest]:
    """Beyond the server's patience of 15 seconds, within it, and clients that go away."""
    whole = _post("/v1/images/generations", json.dumps(PICTURE | {"steps": 0}).encode())
    for i in range(6):
        yield HostileRequest("slow senders", whole + b" " * i, pause=17)
        yield HostileRequest("slow senders", whole + b" " * (10 + i), pause=2)
        yield HostileRequest("slow senders", _get("/health", f"X: {i}"), pause=17)
    for size in range(8, len(whole), 8):
        yield HostileRequest("clients that leave", whole[: 2 * size], leaves=True)


def hostile_requests(seed: int = 1) -> list[HostileRequest]:
    source = random.Random(seed)
    found = [
        *_wrong_values(),
        *_damaged(source),
        *_huge(),
        *_forms(source),
        *_headers(),
        *_request_lines(source),
        *_slow(),
    ]
    return list(
        {request.data + repr((request.pause, request.leaves)).encode(): request for request in found}.values()
    )
