import base64
import io
import json
import threading

from PIL import Image
from server_process import LONG, PROMPT

SMALL = {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2}


def test_text_to_image(server):
    # What a front end sends beside what it means.
    body = SMALL | {
        "seed": 5,
        "cfg_scale": 2,
        "sampler_name": "Euler a",
        "n_iter": 2,
        "batch_size": 1,
        "override_settings": {"sd_model_checkpoint": "demo-flux"},
        "alwayson_scripts": {},
    }
    answer = server.post("/sdapi/v1/txt2img", body)
    assert answer.status == 200, answer.body
    images = answer.json()["images"]
    assert len(images) == 2
    assert Image.open(io.BytesIO(base64.b64decode(images[0]))).size == (64, 64)
    assert answer.json()["parameters"] == body
    info = json.loads(answer.json()["info"])
    assert (info["seed"], info["cfg_scale"]) == (5, 2) and len(info["infotexts"]) == 2
    again = server.post(
        "/v1/images/generations",
        {"prompt": PROMPT, "size": "64x64", "steps": 2, "seed": 5, "n": 2, "true_cfg_scale": 2},
    )
    assert [entry["b64_json"] for entry in again.json()["data"]] == images


def test_a_seed_of_minus_one_is_drawn(server):
    seeds = {
        json.loads(server.post("/sdapi/v1/txt2img", SMALL | {"steps": 1, "seed": -1}).json()["info"])["seed"]
        for _ in range(2)
    }
    assert len(seeds) == 2


def test_progress_and_interrupt(server):
    assert server.get("/sdapi/v1/progress").json()["progress"] == 0
    answers = []
    body = {"prompt": PROMPT, "width": 128, "height": 128, "steps": LONG["steps"]}
    waits = threading.Thread(target=lambda: answers.append(server.post("/sdapi/v1/txt2img", body)))
    waits.start()
    while (progress := server.get("/sdapi/v1/progress").json())["state"]["sampling_step"] < 2:
        assert waits.is_alive()
    assert 0 < progress["progress"] < 1 and progress["state"]["sampling_steps"] == LONG["steps"]
    assert server.ask("POST", "/sdapi/v1/interrupt", b"").status == 200
    waits.join(20)
    assert answers[0].status == 409 and answers[0].error()["code"] == "cancelled"


def test_what_front_ends_ask_first(server):
    assert [model["model_name"] for model in server.get("/sdapi/v1/sd-models").json()] == ["demo-flux"]
    assert server.get("/sdapi/v1/options").json() == {"sd_model_checkpoint": "demo-flux"}
    assert len(server.get("/sdapi/v1/samplers").json()) == 1
