import base64
import io
import json
import socket
import time

from PIL import Image
from server_process import JSON, LONG, PICTURES, ROOT, SMALL, SMALL_FILM


def test_events_tell_every_step_and_the_end(server):
    server.wait(server.submit(steps=1))  # the preview's map comes from a first result
    job = server.submit(steps=5, size="128x128")
    events = list(server.events(job))
    names = [name for name, _ in events]
    assert names[0] == "status" and names[-1] == "end" and names.count("end") == 1
    steps = [data for name, data in events if name == "step"]
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert all(step["num_steps"] == 5 and step["kind"] in ("full", "sparse", "skip") for step in steps)
    letters = "".join({"full": "f", "sparse": "s", "skip": "k"}[step["kind"]] for step in steps)
    end = events[-1][1]
    assert end["status"] == "completed" and end["steps"] == [letters]
    assert end["results"] == [{"url": f"/v1/jobs/{job}/content?index=0", "content_type": "image/png"}]
    assert names.index("result") < names.index("end")


def test_a_preview_looks_like_the_picture(server):
    vivid = {"prompt": "a large marble red ring at the center on a marble navy background", "size": "192x192"}
    server.wait(server.submit(steps=6, **vivid))
    job = server.submit(steps=8, **vivid | {"seed": 8})
    previews = [data for name, data in server.events(job) if name == "preview"]
    assert previews
    data = previews[-1]["data_url"].removeprefix("data:image/png;base64,")
    preview = Image.open(io.BytesIO(base64.b64decode(data)))
    picture = Image.open(io.BytesIO(server.get(f"/v1/jobs/{job}/content").body))
    assert preview.width == preview.height < picture.width
    small = picture.resize(preview.size, Image.Resampling.BOX)
    pairs = list(zip(small.tobytes(), preview.tobytes(), strict=True))
    error = sum(abs(a - b) for a, b in pairs) / len(pairs)
    flat = sum(abs(a - 128) for a, _ in pairs) / len(pairs)
    assert error < 0.3 * flat, (error, flat)


def test_events_of_a_job_that_has_ended_are_its_end(server):
    job = server.submit(steps=1)
    server.wait(job)
    assert [name for name, _ in server.events(job)] == ["end"]


def test_a_running_job_is_cancelled_after_its_step(server):
    job = server.submit(**LONG)
    server.wait(job, "in_progress")
    answer = server.ask("DELETE", f"/v1/jobs/{job}")
    assert answer.status == 202
    ended = server.wait(job, timeout=10)
    assert ended["status"] == "cancelled" and ended["error"]["code"] == "cancelled"
    assert not list(server.folder.glob(f"{job}*"))


def test_a_waiting_job_is_cancelled_at_once(server):
    running, waiting = server.submit(**LONG), server.submit(**LONG)
    server.wait(running, "in_progress")
    assert server.job(waiting)["position"] == 0
    assert server.ask("DELETE", f"/v1/jobs/{waiting}").json()["status"] == "cancelled"
    assert [name for name, _ in server.events(waiting)] == ["end"]
    server.ask("DELETE", f"/v1/jobs/{running}")
    server.wait(running)


def test_a_model_with_two_transformers_has_two_scales(serve, tmp_path):
    tiny = ROOT / "tests/data/pipeline"
    model = tmp_path / "tiny-wan-2.2"
    model.mkdir()
    parts = [tiny / "tiny-wan" / name for name in ("text_encoder", "vae", "scheduler")]
    for part in [*(tiny / "tiny-wan-2.2").iterdir(), *parts]:
        (model / part.name).symlink_to(part)
    (model / "tokenizer").symlink_to(PICTURES / "tokenizer_2")
    server = serve(models=(model,))
    (served,) = server.get("/v1/models").json()["data"]
    assert served["defaults"]["true_cfg_scale_2"] == 5
    film = SMALL_FILM | {"steps": 8, "true_cfg_scale": 3, "max_sequence_length": 40}
    of_default = server.post("/v1/videos", film).json()["id"]
    of_request = server.post("/v1/videos", film | {"true_cfg_scale_2": 2}).json()["id"]
    for job, scale in ((of_default, 3), (of_request, 2)):
        ended = server.wait(job)
        assert ended["status"] == "completed", ended
        assert ended["settings"]["true_cfg_scale_2"] == scale
        assert f"--true-cfg-scale-2 {scale}" in ended["command"]
    films = [server.get(f"/v1/videos/{job}/content").body for job in (of_default, of_request)]
    assert films[0] != films[1]


def test_an_ended_job_is_removed_with_its_files(server):
    job = server.submit(steps=1, n=2)
    server.wait(job)
    assert len(list(server.folder.glob(f"{job}*"))) == 2
    answer = server.ask("DELETE", f"/v1/jobs/{job}")
    assert answer.status == 200 and answer.json()["deleted"]
    assert not list(server.folder.glob(f"{job}*"))
    assert server.get(f"/v1/jobs/{job}").error()["code"] == "job_not_found"


def test_jobs_are_listed_newest_first_page_by_page(server):
    jobs = [server.submit(steps=1) for _ in range(3)]
    for job in jobs:
        server.wait(job)
    first = server.get("/v1/jobs?limit=2").json()
    assert [job["id"] for job in first["data"]] == jobs[:0:-1] and first["has_more"]
    second = server.get(f"/v1/jobs?limit=1&after={jobs[1]}").json()
    assert [job["id"] for job in second["data"]] == [jobs[0]]
    for query in ("limit=0", "limit=x", "after=/etc/passwd"):
        assert server.get(f"/v1/jobs?{query}").status == 400


def test_parts_of_a_result(server):
    job = server.submit(steps=1)
    server.wait(job)
    path = f"/v1/jobs/{job}/content"
    whole = server.get(path).body
    size = len(whole)
    for header, part in {
        "bytes=0-9": whole[:10],
        "bytes=10-": whole[10:],
        "bytes=-7": whole[-7:],
        f"bytes=5-{10 * size}": whole[5:],
    }.items():
        answer = server.get(path, headers={"Range": header})
        assert (answer.status, answer.body) == (206, part), header
        assert answer.headers["Content-Range"].endswith(f"/{size}")
    assert server.get(path, headers={"Range": f"bytes={size}-"}).status == 416
    # Several ranges would be a large answer to a small question.
    many = server.get(path, headers={"Range": "bytes=0-" + ",0-" * 2000})
    assert (many.status, many.body) == (200, whole)
    assert server.get(path + "?index=1").status == 404
    assert server.ask("HEAD", path).headers["Content-Length"] == str(size)


def test_a_client_that_leaves_cancels_what_it_waits_for(server):
    before = {job["id"] for job in server.get("/v1/jobs").json()["data"]}
    connection = server.connect()
    connection.request("POST", "/v1/images/generations", json.dumps(LONG), JSON)
    end = time.monotonic() + 10
    while not (new := [job for job in server.get("/v1/jobs").json()["data"] if job["id"] not in before]):
        assert time.monotonic() < end
    server.wait(new[0]["id"], "in_progress")
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    assert server.wait(new[0]["id"], timeout=10)["status"] == "cancelled"


def test_jobs_run_at_once_where_asked_and_give_the_same_pictures(serve):
    server = serve("--concurrent", "2", models=(PICTURES,))
    alone = server.post("/v1/images/generations", SMALL).json()["data"][0]
    jobs = [server.submit() for _ in range(4)]
    for job in jobs:
        server.wait(job)
        data = base64.b64encode(server.get(f"/v1/jobs/{job}/content").body).decode()
        assert data == alone["b64_json"]


def test_a_result_that_cannot_be_written_fails_its_job_alone(serve, tmp_path):
    server = serve("--jobs", tmp_path / "jobs.sqlite")
    done = server.post("/v1/images/generations", SMALL | {"response_format": "url"}).json()
    server.folder.rename(tmp_path / "elsewhere")
    answer = server.post("/v1/images/generations", SMALL)
    assert answer.status == 500
    error = answer.error()
    assert error["message"] == "the result could not be written: No such file or directory"
    assert error["code"] == "write_failed"
    assert server.get(f"/v1/jobs/{done['id']}/content").error()["code"] == "result_not_found"
    (tmp_path / "elsewhere").rename(server.folder)
    assert server.post("/v1/images/generations", SMALL).status == 200
    assert server.get(f"/v1/jobs/{done['id']}/content").status == 200
