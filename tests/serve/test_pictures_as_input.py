"""Films that begin with a picture: uploads as OpenAI's clients send them, base64, and what is refused."""

import base64
import hashlib
import io
import json
import os
import shlex
import sqlite3
import subprocess
import time

import pytest
from PIL import Image
from server_process import FILMS, JSON, PICTURES, PROGRAM, ROOT, SMALL, Server

PICTURE = ROOT / "tests/data/pipeline/tiny-wan-image/picture.png"
JPEG = ROOT / "tests/data/io/images/progressive.jpg"
FIELDS = {
    "prompt": "a small blue star moves to the left",
    "size": "64x48",
    "frames": 5,
    "steps": 2,
    "seed": 7,
    "max_sequence_length": 40,
}


@pytest.fixture(scope="module")
def films(tmp_path_factory, picture_films):
    server = Server(tmp_path_factory.mktemp("serve") / "results", models=(picture_films, FILMS, PICTURES))
    yield server
    assert server.stop() == 0


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(fields: dict, files: dict[str, bytes], boundary="a-boundary") -> tuple[bytes, dict[str, str]]:
    """Body and headers of multipart/form-data, as OpenAI's client for Python sends them."""
    body = b""
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value)
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
    for name, data in files.items():
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="x.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode()
        body += data + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def upload(server, fields: dict, files: dict[str, bytes], **headers):
    body, header = form(fields, files)
    return server.ask("POST", "/v1/videos", body, header | headers)


def film(server, answer) -> bytes:
    assert answer.status == 202, answer.body
    job = server.wait(answer.json()["id"])
    assert job["status"] == "completed", job
    return server.get(f"/v1/videos/{job['id']}/content").body


def test_a_film_of_an_upload_and_of_base64_is_that_of_the_command_line(films, picture_films, tmp_path):
    data = PICTURE.read_bytes()
    answer = upload(films, FIELDS, {"input_reference": data})
    first = film(films, answer)
    settings = answer.json()["settings"]
    assert settings["picture"] == "70x50"
    assert settings["picture_sha256"] == hashlib.sha256(data).hexdigest()
    for text in (in_base64(data), "data:image/png;base64," + in_base64(data)):
        assert film(films, films.post("/v1/videos", FIELDS | {"input_reference": text})) == first
    words = shlex.split(films.job(answer.json()["id"])["command"])
    words[0], words[words.index("tiny-wan-image")] = str(PROGRAM), str(picture_films)
    words[words.index("input_reference")] = str(PICTURE)
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, env=environment)
    assert (tmp_path / "result.mp4").read_bytes() == first
    other = film(films, upload(films, FIELDS, {"input_reference": JPEG.read_bytes()}))
    assert other != first


def test_the_size_follows_the_picture(films):
    answer = upload(films, FIELDS | {"size": "auto"}, {"input_reference": PICTURE.read_bytes()})
    assert answer.status == 202, answer.body
    films.ask("DELETE", f"/v1/jobs/{answer.json()['id']}")
    settings = answer.json()["settings"]
    assert settings["picture"] == "70x50" and abs(settings["width"] / settings["height"] - 70 / 50) < 0.1
    films.wait(answer.json()["id"])


def test_fields_of_a_form_are_texts(films):
    fields = FIELDS | {
        "seconds": "1",
        "fps": "8",
        "frames": "null",
        "sparsity": {"attn.first_n_dense_layers": 0},
        "model": "tiny-wan-image",
    }
    answer = upload(films, fields, {"input_reference": PICTURE.read_bytes()})
    assert answer.status == 202, answer.body
    settings = answer.json()["settings"]
    assert (settings["num_frames"], settings["fps"], settings["seed"]) == (9, 8, 7)
    assert settings["sparsity"] == ["attn.first_n_dense_layers=0"]
    films.wait(answer.json()["id"])
    for name, value in {"steps": "two", "seed": "-1", "fps": "[1]", "colour": "red"}.items():
        answer = upload(films, FIELDS | {name: value}, {"input_reference": PICTURE.read_bytes()})
        assert answer.status == 400 and answer.error()["param"] == name, answer.body


def test_models_say_whether_they_need_a_picture(films):
    models = {model["id"]: model["needs_image"] for model in films.get("/v1/models").json()["data"]}
    assert models == {"tiny-wan-image": True, "demo-video": False, "demo-flux": False}
    answer = films.post("/v1/videos", FIELDS)
    assert answer.status == 400
    assert answer.error()["param"] == "input_reference" and "tiny-wan-image" in answer.error()["message"]
    data = {"input_reference": in_base64(PICTURE.read_bytes())}
    answer = films.post("/v1/videos", FIELDS | data | {"model": "demo-video"})
    assert answer.status == 400
    error = answer.error()
    assert error["param"] == "input_reference"
    assert "demo-video" in error["message"] and "of text alone" in error["message"]
    answer = films.post("/v1/images/generations", SMALL | data)
    assert answer.status == 400 and answer.error()["param"] == "input_reference"


def test_bad_pictures_are_refused(films):
    thin = io.BytesIO()
    Image.new("RGB", (500, 5)).save(thin, "PNG")
    many = io.BytesIO()
    Image.new("1", (8192, 8192)).save(many, "PNG")
    png = PICTURE.read_bytes()
    for data, what in (
        (b"#!/bin/sh\n", "neither PNG, JPEG nor WebP"),
        (png[:300], "not a readable PNG"),
        (JPEG.read_bytes()[:-100], "cut off"),
        (thin.getvalue(), "500x5"),
        (many.getvalue(), "8192x8192"),
        (png[:16] + b"\x7f\xff\xff\xff" + png[20:], "not a readable PNG"),
    ):
        for answer in (
            upload(films, FIELDS, {"input_reference": data}),
            films.post("/v1/videos", FIELDS | {"input_reference": in_base64(data)}),
        ):
            assert answer.status == 400, (what, answer)
            error = answer.error()
            assert error["param"] == "input_reference" and what in error["message"], error
    for text in ("", "=", "no base64", in_base64(png)[:-1], "data:image/png," + in_base64(png), 7, [], {}):
        answer = films.post("/v1/videos", FIELDS | {"input_reference": text})
        assert answer.status == 400 and answer.error()["param"] == "input_reference", text
    assert upload(films, FIELDS, {"input_reference": b""}).status == 400
    assert upload(films, FIELDS, {"picture": png}).error()["param"] == "picture"


def test_large_uploads_are_refused(films):
    for answer in (
        upload(films, FIELDS, {"input_reference": bytes((16 << 20) + 1)}),
        films.post("/v1/videos", FIELDS | {"input_reference": in_base64(bytes((16 << 20) + 1))}),
    ):
        assert answer.status == 413, answer
        assert answer.error()["param"] == "input_reference"
    body, headers = form(FIELDS, {"input_reference": bytes(24 << 20)})
    assert films.ask("POST", "/v1/videos", body, headers).error()["code"] == "body_too_large"


def test_uploads_at_a_time_are_bounded(films):
    body, headers = form(FIELDS, {"input_reference": bytes(4 << 20)})
    connections = [films.connect() for _ in range(17)]
    for connection in connections:
        connection.putrequest("POST", "/v1/videos")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:1000])  # the rest does not come yet
        time.sleep(0.05)
    answer = connections[-1].getresponse()
    assert answer.status == 503 and json.loads(answer.read())["error"]["code"] == "too_many_uploads"
    for connection in connections[:-1]:
        connection.send(body[1000:])
        assert connection.getresponse().status == 400  # no picture
    assert upload(films, FIELDS, {"input_reference": PICTURE.read_bytes()}).status == 202


def test_forms_that_are_none(films):
    body, headers = form(FIELDS, {"input_reference": PICTURE.read_bytes()})
    kind = headers["Content-Type"]
    for data, header in (
        (body[:-10], kind),
        (body[5:], kind),
        (b"", kind),
        (body, "multipart/form-data"),
        (body, kind + "x"),
        (body.replace(b'name="prompt"', b'name="seed"'), kind),
        (body.replace(b"small blue", b"small \xff\xfe"), kind),
        (json.dumps(FIELDS).encode(), kind),
    ):
        answer = films.ask("POST", "/v1/videos", data, {"Content-Type": header})
        assert answer.status == 400, (data[:80], header, answer)
        answer.error()
    # Forms go where files do, and no page of another site can send one.
    assert films.ask("POST", "/v1/images/generations", body, headers).status == 415
    answer = films.ask("POST", "/v1/videos", body, headers | {"Origin": "http://evil.example"})
    assert answer.status == 403 and answer.error()["code"] == "wrong_origin"
    answer = films.ask("POST", "/v1/videos", b"{}", {"Tamias-Form": kind})
    assert answer.status == 415


def kept_pictures(server) -> int:
    """In the store of a server that has ended."""
    with sqlite3.connect(server.folder / "jobs.sqlite") as database:
        (count,) = database.execute("SELECT count(*) FROM pictures").fetchone()
    database.close()
    return count


def test_a_picture_outlives_a_restart_and_no_longer(serve, picture_films):
    server = serve(models=(picture_films,))
    data = PICTURE.read_bytes()
    blocker = upload(server, FIELDS | {"steps": 200, "profile": "off"}, {"input_reference": data}).json()[
        "id"
    ]
    server.wait(blocker, "in_progress")
    waiting = upload(server, FIELDS, {"input_reference": data}).json()["id"]
    server.process.kill()
    server.stop()
    assert kept_pictures(server) == 2
    server = serve(models=(picture_films,))
    assert server.wait(waiting)["status"] == "completed"
    server.ask("DELETE", f"/v1/jobs/{blocker}")
    server.wait(blocker)
    # Nothing of it stands in an answer, or in the folder of results.
    assert {path.name for path in server.folder.iterdir()} >= {f"{waiting}-1.mp4", "jobs.sqlite"}
    assert not [path.name for path in server.folder.iterdir() if "input" in path.name]
    assert server.stop() == 0 and kept_pictures(server) == 0


def test_a_client_of_openais_form_may_leave_out_the_picture(films):
    answer = upload(films, FIELDS | {"model": "demo-video", "size": "32x32"}, {})
    assert answer.status == 202, answer.body
    assert films.wait(answer.json()["id"])["status"] == "completed"
    assert films.ask("POST", "/v1/videos", b"{}", JSON).status == 400
