"""Models under a budget of memory: loaded when they are needed, let go for others."""

import json
import threading
from pathlib import Path

from server_process import FILMS, PICTURES, SMALL, SMALL_FILM, refused

BOTH = (PICTURES, FILMS)


def models(server) -> dict[str, dict]:
    return {model["id"]: model for model in server.get("/v1/models").json()["data"]}


def mapped(server, folder: Path) -> bool:
    """Whether weights of that folder are in the server's address space."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    return any(str(folder) in line and line.endswith(".safetensors") for line in maps.splitlines())


def resident_mib(server) -> float:
    (line,) = [
        line
        for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
    return int(line.split()[1]) / 1024


def loaded_bytes(server) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith("tamias_loaded_model_bytes ")).split()[1])


def picture(server, **keywords):
    answer = server.post("/v1/images/generations", SMALL | {"steps": 1}, **keywords)
    assert answer.status == 200, answer.body
    return answer.json()["data"][0]["b64_json"]


def film(server) -> str:
    answer = server.post("/v1/videos", SMALL_FILM | {"steps": 1})
    assert answer.status == 202, answer.body
    job = server.wait(answer.json()["id"])
    assert job["status"] == "completed", job
    return job["id"]


def budget_for_one(server) -> int:
    """Room for the larger of both models and nothing beside it."""
    return max(model["bytes"] for model in models(server).values()) + 1


def test_models_are_loaded_when_they_are_needed(serve):
    server = serve(models=BOTH)
    assert not any(model["loaded"] for model in models(server).values())
    assert not mapped(server, PICTURES) and not mapped(server, FILMS) and loaded_bytes(server) == 0
    picture(server)
    known = models(server)
    assert known["demo-flux"]["loaded"] and not known["demo-video"]["loaded"]
    assert mapped(server, PICTURES) and loaded_bytes(server) == known["demo-flux"]["bytes"]
    film(server)
    assert loaded_bytes(server) == sum(model["bytes"] for model in known.values())


def test_a_model_is_let_go_for_another(serve, server):
    budget = budget_for_one(server)
    small = serve("--max-model-memory", budget, models=BOTH)
    first = picture(small)
    with_pictures = resident_mib(small)
    assert mapped(small, PICTURES)
    film(small)
    assert mapped(small, FILMS) and not mapped(small, PICTURES)
    assert not models(small)["demo-flux"]["loaded"] and models(small)["demo-video"]["loaded"]
    assert loaded_bytes(small) <= budget
    assert picture(small) == first
    assert mapped(small, PICTURES) and not mapped(small, FILMS)
    # Both at once take more than either alone.
    film(server)
    picture(server)
    assert resident_mib(small) < with_pictures + 8
    # To look at a request for the other model loads nothing beside the one in memory.
    assert small.post("/v1/videos", SMALL_FILM | {"size": "7x7"}).status == 400
    assert mapped(small, PICTURES) and not mapped(small, FILMS)


def test_jobs_of_two_models_at_once_take_turns_in_memory(serve, server):
    small = serve("--max-model-memory", budget_for_one(server), "--concurrent", "2", models=BOTH)
    films = [small.post("/v1/videos", SMALL_FILM | {"steps": 1}).json()["id"] for _ in range(3)]
    pictures = [small.submit(steps=1) for _ in range(3)]
    seen = []
    over = threading.Event()

    def watch():
        while not over.wait(0.01):
            seen.append(sum(model["loaded"] for model in models(small).values()))

    thread = threading.Thread(target=watch)
    thread.start()
    for job in films + pictures:
        assert small.wait(job)["status"] == "completed"
    over.set()
    thread.join()
    assert max(seen) == 1


def test_a_job_that_waits_for_memory_can_be_cancelled(serve, server):
    small = serve("--max-model-memory", budget_for_one(server), "--concurrent", "2", models=BOTH)
    long = small.submit(size="128x128", steps=200, profile="off")
    small.wait(long, "in_progress")
    waiting = small.post("/v1/videos", SMALL_FILM).json()["id"]
    small.wait(waiting, "in_progress")
    small.ask("DELETE", f"/v1/jobs/{waiting}")
    assert small.wait(waiting, timeout=10)["status"] == "cancelled"
    assert small.job(long)["status"] == "in_progress"
    small.ask("DELETE", f"/v1/jobs/{long}")
    small.wait(long)


def test_jobs_of_one_model_follow_one_another(serve, server):
    small = serve("--max-model-memory", budget_for_one(server), models=BOTH)
    blocker = small.submit(size="128x128", steps=200, profile="off")
    small.wait(blocker, "in_progress")
    order = []
    for i in range(2):
        order.append(small.post("/v1/videos", SMALL_FILM | {"steps": 1, "frames": 1 + 4 * i}).json()["id"])
        order.append(small.submit(steps=1, size=f"{64 + 8 * i}x64"))
    small.ask("DELETE", f"/v1/jobs/{blocker}")
    for job in order:
        small.wait(job)
    names = small.stop() == 0 and [
        line.split(": ")[1][:3] for line in small.errors.splitlines() if ": completed" in line
    ]
    assert names == ["img", "img", "vid", "vid"]


def test_what_cannot_be_served_is_refused_at_the_start(tmp_path, server):
    bytes_of = models(server)["demo-flux"]["bytes"]
    line = refused("--model", PICTURES, "--output-dir", tmp_path / "r", "--max-model-memory", bytes_of - 1)
    assert "demo-flux" in line and "--max-model-memory" in line
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    line = refused("--model", PICTURES, "--model", tmp_path / "broken", "--output-dir", tmp_path / "r")
    assert "broken" in line
    assert "--max-model-memory" in refused("--model", PICTURES, "--max-model-memory", "much")


def test_device_and_dtype(serve, tmp_path):
    line = refused("--model", PICTURES, "--output-dir", tmp_path / "r", "--device", "cuda:99")
    assert "GPU 99" in line
    assert "dtype" in refused("--model", PICTURES, "--output-dir", tmp_path / "r", "--dtype", "f64")
    assert "--weight-dtype" in refused("--model", PICTURES, "--output-dir", tmp_path / "r", "--weight-dtype", "f8")
    server = serve("--dtype", "bf16", "--weight-dtype", "fp8_e4m3")
    model = models(server)["demo-flux"]
    assert (model["device"], model["dtype"], model["weight_dtype"]) == ("cpu", "bf16", "fp8_e4m3")
    job = server.submit(steps=1)
    job = server.wait(job)
    assert job["status"] == "completed"
    settings = [job["settings"][name] for name in ("device", "dtype", "weight_dtype")]
    assert settings == ["cpu", "bf16", "fp8_e4m3"]
    assert "--dtype bf16 --weight-dtype fp8_e4m3" in job["command"] and "--device" not in job["command"]
    plain = serve(folder=tmp_path / "plain")
    assert picture(server) != picture(plain)
