"""integrations/ray: an application of two replicas on this machine, over HTTP; one replica dies in the middle of a job."""

import base64
import io
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PACKAGE = os.environ.get("TAMIAS_PYTHON", str(ROOT / "build/release/python"))
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
PROMPT = "a large red circle at the center on a grey background"


TINY = ROOT / "tests/data/pipeline/tiny-wan-image"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Pictures, films, and films that begin with a picture (random: Wan 2.1 in small)."""
    folder = tmp_path_factory.mktemp("model") / "tiny-wan-image"
    folder.mkdir()
    for path in TINY.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "tokenizer").symlink_to(ROOT / "models/demo-flux/tokenizer_2")
    return [str(ROOT / "models/demo-flux"), str(ROOT / "models/demo-video"), str(folder)]


@pytest.fixture(scope="module")
def served(models):
    with pytest.MonkeyPatch.context() as patch:
        # Ray's processes inherit it.
        patch.setenv("PYTHONPATH", f"{PACKAGE}:{ROOT / 'integrations/ray'}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_WAIT_POLICY", "passive")
        patch.syspath_prepend(PACKAGE)
        patch.syspath_prepend(str(ROOT / "integrations/ray"))
        yield from serve_two_replicas(models)


def serve_two_replicas(models):
    import ray
    from ray import serve
    from tamias_ray import application

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(application(models, replicas=2, threads=1, cpus=0.5, max_queue=3))
    yield
    serve.shutdown()
    ray.shutdown()


def ask(method, path, fields=None, timeout=240):
    """Status and body, JSON as what it holds."""
    data = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            data = answer.read()
            return answer.status, json.loads(data) if answer.headers["Content-Type"] == "application/json" else data
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


def post(fields):
    return ask("POST", "/v1/images/generations", fields)


def wait_for_film(film_id):
    """The film once it has ended."""
    while (film := ask("GET", f"/v1/videos/{film_id}")[1])["status"] in ("queued", "in_progress"):
        time.sleep(0.1)
    return film


def pixels(answer, index=0):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["data"][index]["b64_json"]))))


SMALL = {"prompt": PROMPT, "size": "64x64", "steps": 4, "seed": 3}


def test_a_picture_is_that_of_the_engine(served):
    import tamias

    status, answer = post(SMALL)
    assert status == 200, answer
    pipeline = tamias.Pipeline(ROOT / "models/demo-flux")
    expected = pipeline.generate(PROMPT, width=64, height=64, steps=4, seed=3, threads=1).images[0]
    np.testing.assert_array_equal(pixels(answer), expected)
    assert len(answer["steps"]) == 4
    assert answer["seed"] == 3


def test_models_and_health(served):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=60) as answer:
        models = {model["id"]: model for model in json.loads(answer.read())["data"]}
    assert models["demo-flux"]["family"] == "FluxPipeline"
    assert [model["kind"] for model in models.values()] == ["image", "video", "video"]
    assert [model["needs_image"] for model in models.values()] == [False, False, True]
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=60) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"size": "63x64"}, 400, "width"),
        ({"size": "big"}, 400, "size"),
        ({"steps": 0}, 400, "steps"),
        ({"n": 9}, 400, "n"),
        ({"profile": "dmeo"}, 400, "did you mean 'demo'"),
        ({"profile": "../secret"}, 400, "profile"),
        ({"sparsity": {"attn.topkeys": 1}}, 400, "attn.top_keys"),
        ({"model": "other"}, 404, "demo-flux"),
        ({"model": "demo-video"}, 400, "does not make pictures"),
        ({"colour": "red"}, 400, "colour"),
        ({"prompt": None}, 400, "prompt"),
        ({"seed": -1}, 400, "seed"),
    ],
)
def test_bad_requests_are_answered_in_one_line(served, change, status, text):
    found, answer = post(SMALL | change)
    assert found == status, answer
    message = answer["error"]["message"]
    assert text in message
    assert "\n" not in message
    assert str(ROOT) not in message


FILM = {"prompt": "a red star moving left", "size": "32x32", "frames": 5, "steps": 2, "seed": 7}


def test_a_film_is_that_of_the_engine(served, tmp_path):
    import tamias

    status, film = ask("POST", "/v1/videos", FILM)
    assert status == 202, film
    assert film["object"] == "video" and film["model"] == "demo-video"
    film = wait_for_film(film["id"])
    assert (film["status"], film["progress"], film["error"]) == ("completed", 100, None)
    assert film["size"] == "32x32" and len(film["steps"]) == 2
    status, content = ask("GET", f"/v1/videos/{film['id']}/content")
    assert status == 200
    pipeline = tamias.Pipeline(ROOT / "models/demo-video")
    options = {"width": 32, "height": 32, "num_frames": 5, "steps": 2, "seed": 7}
    (expected,) = pipeline.generate(FILM["prompt"], threads=1, **options).videos
    tamias.write_video(tmp_path / "film.mp4", expected.frames, expected.fps, pipeline.text(FILM["prompt"], **options))
    assert content == (tmp_path / "film.mp4").read_bytes()
    assert ask("DELETE", f"/v1/videos/{film['id']}")[0] == 200
    assert ask("GET", f"/v1/videos/{film['id']}")[0] == 404


def test_a_film_of_a_picture(served):
    fields = FILM | {"model": "tiny-wan-image", "size": "auto", "seconds": 0.3, "frames": None, "fps": 16}
    status, film = ask("POST", "/v1/videos", fields)
    assert status == 202, film
    film = wait_for_film(film["id"])
    assert film["status"] == "failed" and "picture" in film["error"]["message"]
    picture = base64.b64encode((TINY / "picture.png").read_bytes()).decode()
    for text in (picture, "data:image/png;base64," + picture):
        film = wait_for_film(ask("POST", "/v1/videos", fields | {"input_reference": text})[1]["id"])
        assert film["status"] == "completed", film
        assert film["settings"]["frames"] == 5
    for model, text, problem in (
        ("tiny-wan-image", "no base64", "in base64"),
        ("tiny-wan-image", base64.b64encode(b"text").decode(), "neither PNG, JPEG nor WebP"),
        ("demo-video", picture, "of text alone"),
    ):
        film = wait_for_film(ask("POST", "/v1/videos", fields | {"model": model, "input_reference": text})[1]["id"])
        assert film["status"] == "failed" and problem in film["error"]["message"], film
        assert "/tmp" not in film["error"]["message"]


def test_a_film_is_cancelled(served):
    status, film = ask("POST", "/v1/videos", FILM | {"size": "128x128", "frames": 33, "steps": 200, "profile": "off"})
    assert status == 202, film
    while ask("GET", f"/v1/videos/{film['id']}")[1]["status"] == "queued":
        time.sleep(0.1)
    assert ask("GET", f"/v1/videos/{film['id']}/content")[0] == 404
    assert ask("DELETE", f"/v1/videos/{film['id']}")[0] == 200
    film = wait_for_film(film["id"])
    assert film["status"] == "failed" and film["error"]["code"] == "cancelled"
    wait_for_idle_replicas()  # whatever ran it has stopped
    assert wait_for_film(ask("POST", "/v1/videos", FILM)[1]["id"])["status"] == "completed"


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"frames": 6, "seconds": None}, None, "num_frames"),
        ({"seconds": 1}, 400, "seconds"),
        ({"fps": 0}, 400, "fps"),
        ({"model": "demo-flux"}, 400, "does not make films"),
        ({"n": 2}, 400, "n"),
    ],
)
def test_bad_films_are_refused(served, change, status, text):
    found, answer = ask("POST", "/v1/videos", FILM | change)
    if status is None:
        assert found == 202, answer
        message = wait_for_film(answer["id"])["error"]["message"]
    else:
        assert found == status, answer
        message = answer["error"]["message"]
    assert text in message and "\n" not in message


def stream(fields):
    """The events of a streaming request as (name, data), as they come."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/images/generations",
        json.dumps(fields | {"stream": True}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=240) as answer:
        name = None
        for line in answer:
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_progress_is_streamed(served):
    events = list(stream(SMALL))
    assert [data["step"] for name, data in events if name == "step"] == [1, 2, 3, 4]
    assert events[-1][0] == "result"
    _, plain = post(SMALL)
    np.testing.assert_array_equal(pixels(events[-1][1]), pixels(plain))


def replica_pids():
    """Of the processes that hold the models."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        except (OSError, UnicodeDecodeError):
            continue
        if "ServeReplica" in name and "Generator" in name:
            pids.append(int(folder.name))
    return pids


def test_a_job_outlives_the_replica_it_ran_on(served):
    # So many steps that it is not done before its replica is found.
    fields = {"prompt": PROMPT, "size": "128x128", "steps": 150, "seed": 5, "profile": "off"}
    wait_for_idle_replicas()  # so that the busy one is the job's
    killed, names, result = False, [], None
    for name, data in stream(fields):
        names.append(name)
        if name == "step" and data["step"] == 3 and not killed:
            pids = replica_pids()
            assert len(pids) == 2
            # Which of them runs it is Ray's affair: the busy one has used more of the CPU since.
            before = {pid: cpu_seconds(pid) for pid in pids}
            time.sleep(0.5)
            os.kill(max(pids, key=lambda pid: cpu_seconds(pid) - before[pid]), signal.SIGKILL)
            killed = True
        if name == "result":
            result = data
    assert killed
    assert "restart" in names
    assert result is not None, names[-1]
    status, again = post(fields)
    assert status == 200
    np.testing.assert_array_equal(pixels(result), pixels(again))


def wait_for_idle_replicas():
    def used():
        return sum(map(cpu_seconds, replica_pids()))

    before = used()
    for _ in range(240):
        time.sleep(0.5)
        now = used()
        if now - before < 0.1:
            return
        before = now
    raise AssertionError("the replicas are busy without a job")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_requests_beyond_the_queue_are_refused(served):
    answers = []

    def ask_for(seed):
        answers.append(post(SMALL | {"seed": seed, "size": "128x128", "steps": 12})[0])

    threads = [threading.Thread(target=ask_for, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 503}
    assert answers.count(200) >= 2
    assert 503 in answers


def test_settings_as_text_are_checked(monkeypatch):
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.syspath_prepend(str(ROOT / "integrations/ray"))
    from tamias_ray import build

    with pytest.raises(ValueError, match="models"):
        build({})
    with pytest.raises(ValueError, match="replica: expected one of"):
        build({"models": "a", "replica": "2"})
    assert build({"models": str(ROOT / "models/demo-flux"), "replicas": "1-2"})
