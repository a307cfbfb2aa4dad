"""Tamias on many machines: a Ray Serve application whose replicas each hold the models, behind the HTTP shapes of
`tamias serve` (OpenAI's pictures).

    serve run tamias_ray:build models=/models/demo-flux replicas=2
    curl http://127.0.0.1:8000/v1/images/generations -H 'Content-Type: application/json' \\
        -d '{"prompt": "a large red circle at the center on a grey background", "size": "256x256", "steps": 8}'

Ray does what is its own: it places replicas on CPUs or GPUs, adds and removes them by the number of requests under way,
and starts those that die again. A picture is decided by its seed, so a request whose replica dies in the middle is run
again on another, and gives the same picture.
"""

# Annotations stay objects: FastAPI reads them where the class is not yet named.
import asyncio
import base64
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

import tamias

# A request is begun this often at most: then its fault is its own, not a machine's.
_MOST_ATTEMPTS = 3


class ImageRequest(BaseModel):
    """What POST /v1/images/generations takes; the fields from `seed` on are ours."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(max_length=8192)
    model: str | None = None
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    n: int = Field(1, ge=1, le=8)
    output_format: str = Field("png", pattern="^(png|jpeg|webp)$")
    user: str | None = None
    stream: bool = False
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
            "num_images": self.n,
            "seed": self.seed,
            "steps": self.steps,
            "sparsity": self.profile,
            "overrides": self.sparsity,
            "negative_prompt": self.negative_prompt,
            "true_cfg_scale": self.true_cfg_scale,
            "guidance_scale": self.guidance_scale,
        }


class Generator:
    """A replica: the models in memory, one generation at a time."""

    def __init__(self, models: dict[str, str], threads: int) -> None:
        self._pipelines = {name: tamias.Pipeline(folder) for name, folder in models.items()}
        self._threads = threads

    def models(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "family": pipeline.info.family,
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
                tell(self._generate(model, ImageRequest(**fields), tell, left))
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

    def _generate(self, model: str, request: ImageRequest, tell: Any, left: threading.Event) -> dict[str, Any]:
        pipeline = self._pipelines[model]

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

        options = request.options()
        result = pipeline.generate(request.prompt, progress=progress, threads=self._threads, **options)
        texts = [pipeline.text(request.prompt, index=i, **options) for i in range(len(result.images))]
        return {
            "event": "result",
            "images": [
                tamias.encode_image(request.output_format, image, text) for image, text in zip(result.images, texts)
            ],
            "seed": request.seed,
            "seconds": result.seconds_total,
            "steps": "".join({"full": "f", "sparse": "s", "skip": "k"}[step["kind"]] for step in result.report["steps"]),
        }


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


@serve.ingress(api)
class Api:
    """The ingress: reads requests, hands them to replicas, and runs those again whose replica died."""

    def __init__(self, generator: DeploymentHandle, models: dict[str, str]) -> None:
        self._generator = generator
        self._models = models

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
        model = request.model or next(iter(self._models))
        if model not in self._models:
            raise ApiError(404, f"model: expected one of {', '.join(self._models)}, found '{model}'", param="model")
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

    async def _events(self, model: str, request: ImageRequest) -> AsyncIterator[dict[str, Any]]:
        generate = self._generator.options(stream=True).generate
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            try:
                async for event in generate.remote(model, request.model_dump()):
                    yield event
                return
            except RayActorError:
                if attempt == _MOST_ATTEMPTS:
                    yield {"event": "error", "kind": "InternalError", "message": "the replicas of this request died"}
                    return
                yield {"event": "restart", "attempt": attempt + 1}

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
    return ingress.bind(generator.bind(named, threads), named)


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
