"""The server and its OpenAPI document: every route is in it, and schemathesis holds each answer to it."""

import json
import re
import subprocess
import sys

from server_process import FILMS, PICTURES, ROOT

ROUTE = re.compile(r'add\((?:"(GET|POST|DELETE)", )?"(/[^"]*)"')
# Not use_after_free: to delete a job that is under way cancels it, and it can still be looked at.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
]


def routes() -> set[tuple[str, str]]:
    """(method, path) of every route in the sources."""
    found = set()
    for path in ROOT.glob("apps/serve/*_routes.cc"):
        found |= {(method or "GET", route) for method, route in ROUTE.findall(path.read_text())}
    assert len(found) > 15
    return found


def described() -> dict:
    return json.loads((ROOT / "apps/serve/openapi.json").read_text())["paths"]


def test_the_document_describes_every_route_and_no_other(server):
    assert server.get("/openapi.json").json()["paths"] == described()
    in_document = {
        (method.upper(), path)
        for path, item in described().items()
        for method in item
        if method != "parameters"
    }
    assert in_document == routes()


def test_schemathesis_finds_no_fault(serve, tmp_path):
    # Whatever is asked for takes a moment.
    server = serve(
        "--max-steps", "1", "--max-pixels", "4096", "--max-queue", "1000", models=(PICTURES, FILMS)
    )
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"http://127.0.0.1:{server.port}/openapi.json",
            "--checks",
            ",".join(CHECKS),
            "--max-examples",
            "25",
            "--seed",
            "1",
            "--continue-on-failure",
            "--no-shrink",
            "--request-timeout",
            "60",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-20000:] + result.stderr
    assert server.get("/health").status == 200
