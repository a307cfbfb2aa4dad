import base64
import io
import os
import shlex
import subprocess

from PIL import Image
from server_process import FILMS, PICTURES, PROGRAM, PROMPT, SMALL, SMALL_FILM


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def generate(server, **fields):
    answer = server.post("/v1/images/generations", SMALL | fields)
    assert answer.status == 200, answer.body
    return answer.json()


def test_models_tell_their_defaults_and_profiles(server):
    listed = server.get("/v1/models").json()
    assert listed["object"] == "list"
    flux, film = listed["data"]
    assert (flux["id"], flux["kind"]) == ("demo-flux", "image")
    assert (film["id"], film["kind"]) == ("demo-video", "video")
    assert flux["defaults"]["width"] == 512 and film["defaults"]["num_frames"] == 33
    names = [profile["name"] for profile in flux["profiles"]]
    assert names == ["off", "demo", "demo-tuned"]
    for profile in flux["profiles"]:
        assert profile["full"] + profile["sparse"] + profile["skip"] == flux["defaults"]["steps"]
    # What tune measured stands in the file's comment; of another model it says nothing.
    measured = {profile["name"]: profile.get("measured") for profile in flux["profiles"]}
    assert measured == {"off": None, "demo": None, "demo-tuned": {"speedup": 4.93, "psnr": 30.0}}
    assert not any("measured" in profile for profile in film["profiles"])
    assert flux["default_profile"] == "demo"


def test_a_picture_as_base64(server):
    answer = generate(server)
    image = picture(base64.b64decode(answer["data"][0]["b64_json"]))
    assert image.format == "PNG" and image.size == (64, 64)
    assert answer["settings"]["seed"] == 7 and answer["settings"]["profile"] == "demo"
    assert len(answer["steps"]) == 1 and len(answer["steps"][0]) == 3


def test_pictures_by_url_in_other_formats(server):
    answer = generate(server, n=2, response_format="url", output_format="webp", output_compression=40)
    assert len(answer["data"]) == 2
    pictures = []
    for entry in answer["data"]:
        address, path = entry["url"].split("/", 3)[2:]
        assert address == f"127.0.0.1:{server.port}"
        content = server.get("/" + path)
        assert content.headers["Content-Type"] == "image/webp"
        pictures.append(content.body)
        assert picture(content.body).format == "WEBP"
    assert pictures[0] != pictures[1]


def test_the_same_command_line_gives_the_same_picture(server, tmp_path):
    fields = {"sparsity": {"attn.top_keys": 0.3}, "negative_prompt": "it's blue", "profile": "demo"}
    answer = generate(server, **fields)
    job = server.job(answer["id"])
    words = shlex.split(job["command"])
    assert words[:4] == ["tamias", "generate", "--model", "demo-flux"] and PROMPT in words
    words[0], words[3] = str(PROGRAM), str(PICTURES)
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, env=environment)
    with Image.open(tmp_path / "result.png") as image:
        assert image.tobytes() == picture(base64.b64decode(answer["data"][0]["b64_json"])).tobytes()


def test_profiles_and_overrides_change_the_steps(server):
    dense = generate(server, profile="off")
    assert dense["steps"] == ["fff"] and dense["settings"]["profile"] == "off"
    skipping = {"step_caching.is_enabled": True, "step_caching.skip_step_schedule": [1, 2]}
    assert generate(server, profile="demo", sparsity=skipping)["steps"] == ["fkk"]


def test_a_seed_is_drawn_where_none_is_given(server):
    seeds = {generate(server, seed=None, steps=1)["settings"]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_fields_of_their_clients_without_effect_are_taken(server):
    generate(server, steps=1, user="me", quality="auto", style="vivid", background="auto", moderation="low")


def test_a_film_from_submission_to_file(server):
    answer = server.post("/v1/videos", SMALL_FILM)
    assert answer.status == 202
    film = answer.json()
    assert film["object"] == "video" and film["status"] in ("queued", "in_progress")
    assert (film["size"], film["model"]) == ("32x32", "demo-video")
    path = f"/v1/videos/{film['id']}"
    assert answer.headers["Location"] == path
    server.wait(film["id"], "completed")
    film = server.get(path).json()
    assert (film["status"], film["progress"], film["error"]) == ("completed", 100, None)
    content = server.get(path + "/content")
    assert content.headers["Content-Type"] == "video/mp4" and b"ftyp" in content.body[:12]
    assert server.ask("DELETE", path).json() == {"id": film["id"], "object": "video.deleted", "deleted": True}
    assert server.get(path).status == 404


def test_seconds_of_a_film_become_frames(server):
    for seconds in ("0.98", "1", 1):
        answer = server.post("/v1/videos", SMALL_FILM | {"frames": None, "seconds": seconds, "steps": 1})
        settings = answer.json()["settings"]
        assert settings["num_frames"] == 17 and settings["fps"] == 16
        assert server.wait(answer.json()["id"])["status"] == "completed"


def test_pictures_are_no_videos(server):
    job = server.submit(steps=1)
    server.wait(job)
    for path in ("", "/content"):
        assert server.get(f"/v1/videos/{job}{path}").error()["code"] == "video_not_found"


def test_errors_name_fields_as_they_are_sent(server):
    for param, fields in {
        "frames": {"frames": 6},
        "sparsity": {"profile": "off", "sparsity": {"attn.top_keys": 0.1}},
        "profile": {"profile": "nosuch"},
        "seconds": {"frames": None, "seconds": "0.001"},
    }.items():
        error = server.post("/v1/videos", SMALL_FILM | fields).error()
        assert error["param"] == param and error["message"].startswith(f"{param}:"), error
    error = server.post("/v1/images/generations", SMALL | {"sparsity": {"attn.top_keys": "x"}}).error()
    assert error["param"] == "sparsity" and "attn.top_keys=x" in error["message"], error


def test_errors_name_the_field(server):
    cases = {
        "prompt": {"prompt": None},
        "size": {"size": "64x65"},
        "steps": {"steps": 1000},
        "n": {"n": 99},
        "seed": {"seed": -1},
        "profile": {"profile": "configs/demo.yml"},
        "sparsity.attn.top_keys": {"sparsity": {"attn.top_keys": {}}},
        "sparsity": {"sparsity": {"attn=1\n": 1}},
        "output_format": {"output_format": "gif"},
        "true_cfg_scale": {"true_cfg_scale": "3"},
        "true_cfg_scale_2": {"true_cfg_scale_2": 2},  # of films
        "stepps": {"stepps": 3},
        "wait": {"wait": "yes"},
    }
    for param, fields in cases.items():
        answer = server.post("/v1/images/generations", SMALL | fields)
        assert answer.status == 400, (param, answer.body)
        error = answer.error()
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param or (param == "size" and error["param"] in ("width", "height")), error
    assert (
        "did you mean 'steps'"
        in server.post("/v1/images/generations", SMALL | {"stepps": 3}).error()["message"]
    )
    assert server.post("/v1/images/generations", SMALL | {"sparsity": {"attn.topkeys": 1}}).status == 400


def test_a_model_that_is_not_there_or_makes_something_else(server):
    answer = server.post("/v1/images/generations", SMALL | {"model": "nobody"})
    assert answer.status == 404 and answer.error()["code"] == "model_not_found"
    answer = server.post("/v1/images/generations", SMALL | {"model": FILMS.name})
    assert answer.status == 400 and "/v1/videos" in answer.error()["message"]


def test_what_is_too_large_is_refused_before_it_is_taken(server):
    for size in ("2048x2048", "32768x32768"):
        error = server.post("/v1/images/generations", SMALL | {"size": size}).error()
        assert (error["param"], error["code"]) == ("size", "too_large")
    answer = server.post("/v1/videos", SMALL_FILM | {"frames": 65533})
    assert answer.status == 400 and answer.error()["code"] == "too_large"
