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


@pytest.fixture(scope="module")
def served():
    with pytest.MonkeyPatch.context() as patch:
        # Ray's processes inherit it.
        patch.setenv("PYTHONPATH", f"{PACKAGE}:{ROOT / 'integrations/ray'}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_WAIT_POLICY", "passive")
        patch.syspath_prepend(PACKAGE)
        patch.syspath_prepend(str(ROOT / "integrations/ray"))
        yield from serve_two_replicas()


def serve_two_replicas():
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
    serve.run(application([str(ROOT / "models/demo-flux")], replicas=2, threads=1, cpus=0.5, max_queue=3))
    yield
    serve.shutdown()
    ray.shutdown()


def post(fields, timeout=240):
    """Status and body of POST /v1/images/generations."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/images/generations",
        json.dumps(fields).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


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
        (model,) = json.loads(answer.read())["data"]
    assert model["id"] == "demo-flux"
    assert model["family"] == "FluxPipeline"
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
    fields = {"prompt": PROMPT, "size": "128x128", "steps": 30, "seed": 5, "profile": "off"}
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


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_requests_beyond_the_queue_are_refused(served):
    answers = []

    def ask(seed):
        answers.append(post(SMALL | {"seed": seed, "size": "128x128", "steps": 12})[0])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(10)]
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
