import json
import re

import pytest
from server_process import ROOT

ROUTE = re.compile(r'add\((?:"(GET|POST|DELETE)", )?"(/[^"]*)"')


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


def test_every_reference_of_the_document_leads_somewhere():
    text = (ROOT / "apps/serve/openapi.json").read_text()
    document = json.loads(text)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        part = document
        for name in reference.split("/"):
            part = part[name]


@pytest.mark.parametrize(
    "path", [path for path, item in described().items() if "get" in item and "{id}" not in path]
)
def test_what_takes_no_arguments_answers_as_described(server, path):
    answer = server.get(path)
    (content_type,) = described()[path]["get"]["responses"]["200"]["content"]
    assert answer.status == 200 and answer.headers["Content-Type"].startswith(content_type)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def check(schema: dict, value, document: dict, where: str):
    """The part of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, types[name]) for name in names), (where, value)
    assert "const" not in schema or value == schema["const"], (where, value)
    assert "enum" not in schema or value in schema["enum"], (where, value)
    assert "pattern" not in schema or re.fullmatch(schema["pattern"], value), (where, value)
    for name in schema.get("required", []):
        assert name in value, (where, name)
    if isinstance(value, dict) and "properties" in schema:
        for name, part in value.items():
            if name in schema["properties"]:
                check(schema["properties"][name], part, document, f"{where}.{name}")
            else:
                assert where.count(".") == 0 and schema.get("additionalProperties", True), (where, name)
    for i, part in enumerate(value if isinstance(value, list) and "items" in schema else []):
        check(schema["items"], part, document, f"{where}[{i}]")


def test_answers_have_the_shapes_of_the_document(server):
    document = server.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    job = server.submit(steps=1)
    server.wait(job)
    check(schemas["Job"], server.job(job), document, "Job")
    for model in server.get("/v1/models").json()["data"]:
        check(schemas["Model"], model, document, "Model")
    film = server.post("/v1/videos", {"prompt": "x", "size": "32x32", "frames": 5, "steps": 1}).json()
    check(schemas["Video"], film, document, "Video")
    server.wait(film["id"])
    check(schemas["Video"], server.get(f"/v1/videos/{film['id']}").json(), document, "Video")
    check(schemas["Error"], server.get("/nothing").json(), document, "Error")


def test_metrics_count(server):
    def value(series: str) -> float:
        (line,) = [
            line
            for line in server.get("/metrics").body.decode().splitlines()
            if line.startswith(series + " ")
        ]
        return float(line.split()[1])

    full, jobs = value('tamias_steps_total{kind="full"}'), value('tamias_jobs_total{end="completed"}')
    seconds = value('tamias_stage_seconds_total{stage="denoise"}')
    server.wait(server.submit(steps=3, profile="off"))
    assert value('tamias_steps_total{kind="full"}') == full + 3
    assert value('tamias_jobs_total{end="completed"}') == jobs + 1
    assert value('tamias_stage_seconds_total{stage="denoise"}') > seconds
    assert value("tamias_resident_memory_bytes") > 1e7
    assert value("tamias_queue_length") == 0 and value("tamias_jobs_running") == 0
    assert value('tamias_http_requests_total{status="200"}') > 0


def test_the_page_is_one_file_that_fetches_nothing_from_elsewhere(server):
    answer = server.get("/")
    page = answer.body.decode()
    assert answer.body == (ROOT / "apps/serve/page.html").read_bytes()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.findall(r"""(?:src|href)=["']https?:""", page) and "@import" not in page
    labelled = len(re.findall(r"<label", page)) + len(re.findall(r"aria-label=", page))
    assert labelled >= len(re.findall(r"<(?:input|textarea|select)", page))
