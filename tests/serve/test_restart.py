import json
import random
import signal
import sqlite3
import threading
import time

from PIL import Image
from server_process import JSON, LONG, PICTURES, SMALL, refused


def test_nothing_acknowledged_is_lost_by_kill_9(serve):
    """Jobs are submitted and the server is killed at random moments; in the end each is there and done."""
    random_source = random.Random(5)
    acknowledged = []
    for _ in range(5):
        server = serve()
        end = time.monotonic() + random_source.uniform(0.02, 0.4)
        while time.monotonic() < end:
            acknowledged.append(server.submit(steps=1, seed=len(acknowledged)))
            time.sleep(random_source.uniform(0, 0.1))
        server.process.kill()
        server.stop()
    server = serve()
    assert acknowledged
    for job in acknowledged:
        ended = server.wait(job)
        assert ended["status"] == "completed", ended
        Image.open(server.folder / f"{job}-1.png").verify()
    names = {path.name for path in server.folder.iterdir()}
    assert not [name for name in names if name.startswith(".tamias-")]


def test_a_restart_says_what_is_queued_again(serve):
    server = serve()
    running, waiting = server.submit(**LONG), server.submit(steps=1)
    server.wait(running, "in_progress")
    server.process.kill()
    server.stop()
    server = serve()
    assert "jobs of the last run queued again: 2" in server.said
    # What was under way goes behind what waited: it may be what ended the server.
    assert server.wait(running, "in_progress")["interruptions"] == 1
    before = server.job(waiting)
    assert (before["status"], before["interruptions"]) == ("completed", 0)
    server.ask("DELETE", f"/v1/jobs/{running}")
    server.wait(running)


def test_a_job_that_ends_the_server_again_and_again_is_given_up(serve):
    job = None
    for _ in range(5):
        server = serve()
        job = job or server.submit(**LONG)
        server.wait(job, "in_progress")
        server.process.kill()
        server.stop()
    server = serve()
    assert "jobs of the last run given up after ending the server too often: 1" in server.said
    ended = server.job(job)
    assert ended["status"] == "failed" and ended["error"]["code"] == "interrupted"


def test_results_survive_and_are_the_same(serve):
    server = serve()
    job = server.submit()
    server.wait(job)
    before = server.job(job), server.get(f"/v1/jobs/{job}/content").body
    assert server.stop() == 0
    server = serve()
    assert (server.job(job), server.get(f"/v1/jobs/{job}/content").body) == before


def test_a_signal_lets_short_jobs_finish_and_keeps_the_others(serve):
    server = serve()
    short, waiting = server.submit(steps=3, size="128x128"), server.submit(steps=1)
    server.wait(short, "in_progress")
    assert server.stop(signal.SIGTERM) == 0
    assert any(line.startswith("stopping") for line in server.said)
    server = serve()
    assert server.job(short)["status"] == "completed"
    assert server.wait(waiting)["status"] == "completed"
    assert server.stop(signal.SIGINT) == 0


def test_a_server_that_stops_takes_no_job_and_tells_everyone(serve):
    """A long job is stopped and begins again; a client that waits hears of it."""
    server = serve("--concurrent", "2")
    answers = []
    waits = threading.Thread(target=lambda: answers.append(server.post("/v1/images/generations", LONG)))
    waits.start()
    while not (jobs := server.get("/v1/jobs").json()["data"]):
        time.sleep(0.02)
    waited_for, kept = jobs[0]["id"], server.submit(**LONG)
    for job in (waited_for, kept):
        server.wait(job, "in_progress")
    begin = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    while (health := server.get("/health")).status != 503 and time.monotonic() < begin + 5:
        time.sleep(0.02)
    assert health.json() == {"status": "stopping"}
    refused = server.post("/v1/images/generations", SMALL)
    assert refused.status == 503 and refused.error()["code"] == "stopping" and refused.headers["Retry-After"]
    waits.join(30)
    assert answers[0].status == 503
    assert server.stop(None) == 0 and time.monotonic() < begin + 20
    server = serve()
    assert "jobs of the last run queued again: 1" in server.said
    assert server.job(waited_for)["status"] == "cancelled"
    assert server.wait(kept, "in_progress")["interruptions"] == 0
    server.ask("DELETE", f"/v1/jobs/{kept}")
    server.wait(kept)


def test_a_waited_for_job_is_cancelled_when_the_server_was_killed(serve):
    server = serve()
    connection = server.connect()
    connection.request("POST", "/v1/images/generations", json.dumps(LONG), JSON)
    while not (jobs := server.get("/v1/jobs").json()["data"]):
        time.sleep(0.02)
    server.process.kill()
    server.stop()
    connection.close()
    server = serve()
    assert "jobs of the last run cancelled, since their clients are gone: 1" in server.said
    assert server.job(jobs[0]["id"])["status"] == "cancelled"


def test_two_servers_do_not_share_a_store(serve, tmp_path):
    server = serve()
    line = refused("--model", PICTURES, "--listen", "127.0.0.1:0", "--output-dir", server.folder)
    assert "another process has it open" in line


def test_two_servers_do_not_share_a_port(serve, tmp_path):
    server = serve()
    line = refused("--model", PICTURES, "--listen", f"127.0.0.1:{server.port}", "--output-dir", tmp_path / "other")
    assert "cannot bind" in line


def test_what_a_server_does_not_start_with(tmp_path):
    def line(*arguments):
        return refused("--model", PICTURES, "--output-dir", tmp_path / "results", *arguments)

    assert "--api-key-file is missing" in line("--listen", "0.0.0.0:0")
    assert "--api-key-file is missing" in line("--listen", "[::]:0")
    for address in ("8188", "example.com:80", "127.0.0.1:99999", "127.0.0.1:x", ":8188"):
        assert "listen" in line("--listen", address)
    short = tmp_path / "short.txt"
    short.write_text("short\n")
    assert "at least 16 characters" in line("--api-key-file", short)
    for key in (b"a key with blanks in it", "schlüssel-mit-umlaut".encode(), b"\0" * 20, bytes(range(128, 160))):
        short.write_bytes(b"# one\n" + key + b"\n")
        assert "short.txt:2: expected a key of visible ASCII" in line("--api-key-file", short)
    short.write_text("\n# none\n")
    assert "found none" in line("--api-key-file", short)
    for option in ("--max-queue", "--max-steps", "--concurrent"):
        assert option.removeprefix("--") in line(option, "0")
    assert "max-requests-per-minute" in line("--max-requests-per-minute", "-1")
    assert "max-pixels" in line("--max-pixels", "-1")
    assert "two folders are named" in line("--model", PICTURES)
    foreign = tmp_path / "foreign.sqlite"
    foreign.write_text("no database at all, but long enough to be looked at" * 100)
    assert "foreign.sqlite" in line("--jobs", foreign)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    assert "found another database" in line("--jobs", other)
    assert "cannot create" in line("--output-dir", "/proc/nothing")


def test_limits_are_those_of_the_options(serve, tmp_path):
    server = serve("--max-pixels", "4096", "--max-steps", "5", "--jobs", tmp_path / "mine.sqlite", "--quiet")
    model = server.get("/v1/models").json()["data"][0]
    assert (model["max_pixels"], model["max_steps"]) == (4096, 5)
    assert server.post("/v1/images/generations", SMALL | {"size": "128x64"}).error()["code"] == "too_large"
    assert server.post("/v1/images/generations", SMALL | {"steps": 6}).error()["param"] == "steps"
    # The model's own default is held to it as well.
    assert server.post("/v1/images/generations", SMALL | {"steps": None}).error()["param"] == "steps"
    assert server.wait(server.submit())["status"] == "completed"
    assert (tmp_path / "mine.sqlite").exists() and not (server.folder / "jobs.sqlite").exists()
    assert server.stop() == 0 and "completed" not in server.errors
