import re

from server_process import ROOT


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
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.findall(r"""(?:src|href)=["']https?:""", page) and "@import" not in page
    labelled = len(re.findall(r"<label", page)) + len(re.findall(r"aria-label=", page))
    assert labelled >= len(re.findall(r"<(?:input|textarea|select)", page))
