"""Tamias on many machines: a Ray Serve application whose replicas each hold the models, behind the HTTP shapes of
`tamias serve` (OpenAI's pictures and films).

    serve run tamias_ray:build models=/models/demo-flux replicas=2
    curl http://127.0.0.1:8000/v1/images/generations -H 'Content-Type: application/json' \\
        -d '{"prompt": "a large red circle at the center on a grey background", "size": "256x256", "steps": 8}'

Ray does what is its own: it places replicas on CPUs or GPUs, adds and removes them by the number of requests under way,
and starts those that die again. A picture or film is decided by its seed, so a request whose replica dies in the middle
is run again on another, and gives the same result.
"""

# Annotations stay objects: FastAPI reads them where the class is not yet named.
import asyncio
import base64
import json
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

import tamias

# A request is begun this often at most: then its fault is its own, not a machine's.
_MOST_ATTEMPTS = 3
# Films that have ended and are kept, the oldest first to go.
_MOST_FILMS = 100
_MOST_PICTURE_BYTES = 16 << 20


class CommonRequest(BaseModel):
    """What pictures and films have in common; the fields from `seed` on are ours."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(max_length=8192)
    model: str | None = None
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    user: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**64)
    steps: int | None = Field(None, ge=1, le=1000)
    profile: str = Field("auto", max_length=256, pattern=r"^[\w.-]*$")  # a name, never a path
    sparsity: dict[str, bool | int | float | str | list[int] | None] = {}
    negative_prompt: str = Field("", max_length=8192)
    true_cfg_scale: float | None = None
    guidance_scale: float | None = None

    def options(self) -> dict[str, Any]:
        """As tamias.Pipeline.generate takes them."""
        sides = {} if self.size == "auto" else dict(zip(("width", "height"), map(int, self.size.split("x"))))
        return sides | {
            "seed": self.seed,
            "steps": self.steps,
            "sparsity": self.profile,
            "overrides": self.sparsity,
            "negative_prompt": self.negative_prompt,
            "true_cfg_scale": self.true_cfg_scale,
            "guidance_scale": self.guidance_scale,
        }


class ImageRequest(CommonRequest):
    """What POST /v1/images/generations takes."""

    n: int = Field(1, ge=1, le=8)
    output_format: str = Field("png", pattern="^(png|jpeg|webp)$")
    stream: bool = False

    def options(self) -> dict[str, Any]:
        return super().options() | {"num_images": self.n}


class VideoRequest(CommonRequest):
    """What POST /v1/videos takes. input_reference: the picture that the film begins with, in base64, alone or behind
    data:image/png;base64, for models that need one."""

    seconds: float | None = Field(None, gt=0, le=600)
    frames: int | None = Field(None, ge=1, le=100000)
    fps: float | None = Field(None, ge=0.01, le=1000)
    input_reference: str | None = Field(None, min_length=1, max_length=_MOST_PICTURE_BYTES * 4 // 3 + 100)

    def options_for(self, pipeline: tamias.Pipeline) -> dict[str, Any]:
        options = self.options() | {"num_frames": self.frames, "fps": self.fps}
        if self.seconds is not None:
            options["num_frames"] = _frames_for(pipeline, self.seconds * (self.fps or pipeline.info.defaults.fps))
        if self.input_reference is not None:
            options["image"] = _read_picture(self.input_reference)
        return options


def _frames_for(pipeline: tamias.Pipeline, wanted: float) -> int:
    """Films have one frame more than a multiple of the family's: the nearest number of frames."""
    for multiple in (4, 6):
        frames = 1 + multiple * round((max(wanted, 1) - 1) / multiple)
        try:
            pipeline.settings(num_frames=frames)
            return frames
        except tamias.InvalidArgumentError:
            continue  # the family counts otherwise
    return max(1, int(wanted))


def _read_picture(text: str) -> Any:
    """The pixels [height, width, 3] of a picture in base64."""
    try:
        data = base64.b64decode(text.partition(";base64,")[2] if text.startswith("data:") else text, validate=True)
    except ValueError:
        raise tamias.InvalidArgumentError("input_reference: expected a picture in base64") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input_reference"
        path.write_bytes(data)
        try:
            return tamias.read_image(path)
        except tamias.Error as error:
            # The line speaks of a file that its sender does not know.
            problem = str(error).removeprefix(f"{path}: ")
            raise tamias.InvalidArgumentError(f"input_reference: {problem}") from None


class Generator:
    """A replica: the models in memory, one generation at a time."""

    def __init__(self, models: dict[str, str], threads: int) -> None:
        self._pipelines = {name: tamias.Pipeline(folder) for name, folder in models.items()}
        self._threads = threads

    def models(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "kind": "video" if pipeline.info.makes_videos else "image",
                "family": pipeline.info.family,
                "needs_image": pipeline.info.needs_image,
                "profile": pipeline.info.default_profile,
                "width": pipeline.info.defaults.width,
                "height": pipeline.info.defaults.height,
                "steps": pipeline.info.defaults.steps,
            }
            for name, pipeline in self._pipelines.items()
        }

    async def generate(self, model: str, fields: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Steps as they end, then the result or the error, each as a dictionary with `event`. A caller that goes away
        ends the generation at its next step."""
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        left = threading.Event()

        def tell(event: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def work() -> None:
            try:
                make = self._make_film if self._pipelines[model].info.makes_videos else self._make_pictures
                tell(make(model, fields, tell, left))
            except (tamias.Error, TypeError) as error:
                tell({"event": "error", "kind": type(error).__name__, "message": str(error)})
            except BaseException as error:  # the caller waits: it is told of anything
                tell({"event": "error", "kind": "InternalError", "message": f"{type(error).__name__}: {error}"})

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while True:
                event = await events.get()
                yield event
                if event["event"] in ("result", "error"):
                    return
        finally:
            left.set()

    def _generate(
        self, model: str, prompt: str, options: dict[str, Any], tell: Any, left: threading.Event
    ) -> tamias.Result:
        def progress(now: tamias.Progress) -> bool:
            if now.stage == "denoise" and now.step_kind:
                tell(
                    {
                        "event": "step",
                        "image": now.image,
                        "step": now.step,
                        "num_steps": now.num_steps,
                        "kind": now.step_kind,
                        "seconds": now.seconds,
                        "seconds_left": now.seconds_left,
                    }
                )
            return not left.is_set()

        pipeline = self._pipelines[model]
        return pipeline.generate(prompt, progress=progress, threads=self._threads, **options)

    def _make_pictures(
        self, model: str, fields: dict[str, Any], tell: Any, left: threading.Event
    ) -> dict[str, Any]:
        request = ImageRequest(**fields)
        options = request.options()
        result = self._generate(model, request.prompt, options, tell, left)
        pipeline = self._pipelines[model]
        texts = [pipeline.text(request.prompt, index=i, **options) for i in range(len(result.images))]
        return {
            "event": "result",
            "images": [
                tamias.encode_image(request.output_format, image, text) for image, text in zip(result.images, texts)
            ],
            "seed": request.seed,
            "seconds": result.seconds_total,
            "steps": _letters(result),
        }

    def _make_film(self, model: str, fields: dict[str, Any], tell: Any, left: threading.Event) -> dict[str, Any]:
        request = VideoRequest(**fields)
        pipeline = self._pipelines[model]
        options = request.options_for(pipeline)
        settings = pipeline.settings(**options)
        tell(
            {
                "event": "settings",
                "size": f"{settings.width}x{settings.height}",
                "frames": settings.num_frames,
                "fps": settings.fps,
                "steps": settings.steps,
            }
        )
        result = self._generate(model, request.prompt, options, tell, left)
        (film,) = result.videos
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "film.mp4"
            tamias.write_video(path, film.frames, film.fps, pipeline.text(request.prompt, **options))
            return {"event": "result", "film": path.read_bytes(), "steps": _letters(result)}


def _letters(result: tamias.Result) -> str:
    """One letter a step."""
    return "".join({"full": "f", "sparse": "s", "skip": "k"}[step["kind"]] for step in result.report["steps"])


api = FastAPI(title="Tamias", version=tamias.__version__)


class ApiError(Exception):
    """An answer in OpenAI's form."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": None}}


@api.exception_handler(ApiError)
async def _answer_error(_: Request, error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, status_code=error.status)


@api.exception_handler(RequestValidationError)
async def _answer_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return JSONResponse(ApiError(400, f"{param or 'body'}: {first['msg']}", param=param).body, status_code=400)


# Ray keeps the application as it is when the class below is made: what it calls stands above it.
def _error_of(event: dict[str, Any]) -> ApiError:
    is_callers = event["kind"] in ("InvalidArgumentError", "NotFoundError", "UnsupportedError", "OutOfMemoryError", "TypeError")
    if is_callers:
        return ApiError(400, event["message"])
    return ApiError(500, "the generation failed; the replica's log says why", kind="server_error")


def _answer(event: dict[str, Any], request: ImageRequest) -> dict[str, Any]:
    return {
        "created": int(time.time()),
        "data": [{"b64_json": base64.b64encode(image).decode()} for image in event["images"]],
        "output_format": request.output_format,
        "seed": event["seed"],
        "seconds": event["seconds"],
        "steps": event["steps"],
    }


@dataclass
class Film:
    """A film on its way, or done."""

    id: str
    model: str
    request: VideoRequest
    created_at: int = field(default_factory=lambda: int(time.time()))
    completed_at: int | None = None
    status: str = "queued"
    progress: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    steps: str = ""
    content: bytes = b""
    error: dict[str, str] | None = None
    task: asyncio.Task[None] | None = None

    def has_ended(self) -> bool:
        return self.status in ("completed", "failed")

    def fail(self, code: str, message: str) -> None:
        self.status, self.error = "failed", {"code": code, "message": message}

    def body(self) -> dict[str, Any]:
        """OpenAI's video object."""
        settings = self.settings
        return {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": self.status,
            "progress": self.progress,
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "size": settings.get("size", self.request.size),
            "seconds": f"{settings['frames'] / settings['fps']:.2f}" if settings else None,
            "prompt": self.request.prompt,
            "settings": settings | {"seed": self.request.seed, "profile": self.request.profile},
            "steps": self.steps,
            "error": self.error,
        }


@serve.ingress(api)
class Api:
    """The ingress: reads requests, hands them to replicas, and runs those again whose replica died. It holds the films
    until they are fetched and removed; it alone knows of them."""

    def __init__(self, generator: DeploymentHandle, models: dict[str, str], max_queue: int) -> None:
        self._generator = generator
        self._models = models
        self._max_queue = max_queue
        self._kinds: dict[str, str] = {}  # by model: "image" or "video"
        self._films: dict[str, Film] = {}

    @api.get("/health")
    async def health(self) -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/v1/models")
    async def models(self) -> dict[str, Any]:
        found = await self._generator.models.remote()
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "owned_by": "tamias"} | info for name, info in found.items()],
        }

    @api.post("/v1/images/generations")
    async def images(self, request: ImageRequest) -> Any:
        """One answer or, with `stream`, server-sent events: `step` for each step, then `result` or `error`."""
        model = await self._find_model(request.model, "image")
        if request.seed is None:
            request.seed = secrets.randbits(64)  # drawn once: another attempt makes the same picture
        events = self._events(model, request)
        if request.stream:
            return StreamingResponse(self._stream(events, request), media_type="text/event-stream")
        async for event in events:
            if event["event"] == "error":
                raise _error_of(event)
            if event["event"] == "result":
                return _answer(event, request)
        raise ApiError(500, "the generation ended without a result", kind="server_error")

    @api.post("/v1/videos", status_code=202)
    async def make_video(self, request: VideoRequest) -> Any:
        """Takes a film, which is made without its client."""
        model = await self._find_model(request.model, "video")
        if request.seconds is not None and request.frames is not None:
            raise ApiError(400, "seconds: stands beside frames, expected one of them", param="seconds")
        if sum(not film.has_ended() for film in self._films.values()) >= self._max_queue:
            raise ApiError(503, f"the queue is full: {self._max_queue} films wait or run", kind="server_error")
        if request.seed is None:
            request.seed = secrets.randbits(64)
        film = Film("vid-" + secrets.token_hex(16), model, request)
        self._films[film.id] = film
        film.task = asyncio.create_task(self._run(film))
        return film.body()

    @api.get("/v1/videos/{id}")
    async def video(self, id: str) -> Any:
        return self._find_film(id).body()

    @api.get("/v1/videos/{id}/content")
    async def video_content(self, id: str) -> Response:
        film = self._find_film(id)
        if film.status != "completed":
            raise ApiError(404, f"id: the film is {film.status}")
        return Response(film.content, media_type="video/mp4")

    @api.delete("/v1/videos/{id}")
    async def delete_video(self, id: str) -> Any:
        """Cancels a film, or removes one that has ended."""
        film = self._find_film(id)
        if film.has_ended():
            del self._films[id]
        elif film.task is not None:
            film.task.cancel()
        return {"id": id, "object": "video.deleted", "deleted": True}

    async def _find_model(self, name: str | None, kind: str) -> str:
        if not self._kinds:
            found = await self._generator.models.remote()
            self._kinds = {model: about["kind"] for model, about in found.items()}
        of_kind = [model for model, its in self._kinds.items() if its == kind]
        what = {"image": "pictures", "video": "films"}[kind]
        if name is None and of_kind:
            return of_kind[0]
        if name in of_kind:
            return name
        if name in self._kinds:
            raise ApiError(400, f"model: '{name}' does not make {what}", param="model")
        if name is None:
            raise ApiError(400, f"model: no model of this application makes {what}", param="model")
        raise ApiError(404, f"model: expected one of {', '.join(self._models)}, found '{name}'", param="model")

    def _find_film(self, id: str) -> Film:
        if id not in self._films:
            raise ApiError(404, "id: no such video")
        return self._films[id]

    async def _run(self, film: Film) -> None:
        try:
            async with aclosing(self._events(film.model, film.request)) as events:
                async for event in events:
                    self._take(film, event)
        except asyncio.CancelledError:
            film.fail("cancelled", "the job was cancelled")
        except Exception:  # of Ray: whoever asks for the film is told of anything
            film.fail("generation_failed", "the generation failed; the application's log says why")
            raise
        finally:
            film.request.input_reference = None  # a film that has ended needs it no more
            film.task = None
            ended = [one for one in self._films.values() if one.has_ended()]
            for one in ended[: max(len(ended) - _MOST_FILMS, 0)]:
                del self._films[one.id]

    def _take(self, film: Film, event: dict[str, Any]) -> None:
        name = event.pop("event")
        if name == "settings":
            film.status, film.settings = "in_progress", event
        elif name == "step":
            film.progress = 100 * event["step"] // (event["num_steps"] + 1)
        elif name == "result":
            film.status, film.progress, film.completed_at = "completed", 100, int(time.time())
            film.content, film.steps = event["film"], event["steps"]
        elif name == "error":
            error = _error_of(event)
            film.fail("invalid_value" if error.status == 400 else "generation_failed", str(error))

    async def _events(self, model: str, request: CommonRequest) -> AsyncIterator[dict[str, Any]]:
        generate = self._generator.options(stream=True).generate
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            responses = generate.remote(model, request.model_dump())
            try:
                async for event in responses:
                    yield event
                return
            except RayActorError:
                if attempt == _MOST_ATTEMPTS:
                    yield {"event": "error", "kind": "InternalError", "message": "the replicas of this request died"}
                    return
                yield {"event": "restart", "attempt": attempt + 1}
            finally:
                responses.cancel()  # where the caller has gone; nothing where it has ended

    async def _stream(self, events: AsyncIterator[dict[str, Any]], request: ImageRequest) -> AsyncIterator[str]:
        async for event in events:
            name = event.pop("event")
            if name == "error":
                event = _error_of(event).body
            elif name == "result":
                event = _answer(event, request)
            yield f"event: {name}\ndata: {json.dumps(event)}\n\n"


def application(
    models: list[str],
    *,
    replicas: int | tuple[int, int] = 1,
    threads: int = 0,
    cpus: float = 1,
    gpus: float = 0,
    max_queue: int = 64,
) -> serve.Application:
    """The application: models are folders, named by the last part of their path. replicas: how many, or the least and
    the most between which their number follows the requests under way. threads, cpus, gpus: of each replica. max_queue:
    requests that may wait; further ones are answered 503."""
    named = {Path(folder).name: str(Path(folder).resolve()) for folder in models}
    if len(named) != len(models):
        raise ValueError(f"models: expected folders of different names, found {', '.join(models)}")
    scale: dict[str, Any] = {"num_replicas": replicas}
    if not isinstance(replicas, int):
        least, most = replicas
        scale = {
            "autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 2},
        }
    generator = serve.deployment(Generator).options(
        name="Generator",
        max_ongoing_requests=1,
        max_queued_requests=max_queue,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        **scale,
    )
    ingress = serve.deployment(Api).options(
        name="Api", max_ongoing_requests=4 * max_queue, ray_actor_options={"num_cpus": 0}
    )
    return ingress.bind(generator.bind(named, threads), named, max_queue)


def build(arguments: dict[str, str]) -> serve.Application:
    """For `serve run tamias_ray:build models=A,B replicas=1-4 threads=8`: the same from texts."""
    known = {"models", "replicas", "threads", "cpus", "gpus", "max_queue"}
    if unknown := sorted(set(arguments) - known):
        raise ValueError(f"{unknown[0]}: expected one of {', '.join(sorted(known))}")
    if not arguments.get("models"):
        raise ValueError("models: expected folders, separated by commas, found none")
    least, _, most = arguments.get("replicas", "1").partition("-")
    return application(
        arguments["models"].split(","),
        replicas=(int(least), int(most)) if most else int(least),
        threads=int(arguments.get("threads", 0)),
        cpus=float(arguments.get("cpus", 1)),
        gpus=float(arguments.get("gpus", 0)),
        max_queue=int(arguments.get("max_queue", 64)),
    )
