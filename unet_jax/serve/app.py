"""The server's application: its routes, and every error as one line."""

import asyncio
import contextlib
import logging
import math
import time
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from unet_jax.data.sample import Spec
from unet_jax.errors import UserError
from unet_jax.process.capacity import is_out_of_memory
from unet_jax.serve.answers import Predicted, choose_kind, make_answer
from unet_jax.serve.limits import Limits
from unet_jax.serve.line import FullError, Line, Place
from unet_jax.serve.metrics import Metrics
from unet_jax.serve.openapi import describe
from unet_jax.serve.uploads import Upload, decode, read_uploads

_RETRY = "5"  # seconds after which a client may come again
_LOG = logging.getLogger("unet_jax.serve")


class Model(Protocol):
    """What predicts; `library.Run` is one."""

    @property
    def class_names(self) -> Sequence[str]:
        """Returns K names."""
        ...

    @property
    def spec(self) -> Spec:
        """Returns the spec of the images that it reads."""
        ...

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Predicts an image [H, W, C]: uint8 [H, W], or [H, W, K] by class."""
        ...


class _Server:
    def __init__(self, model: Model, limits: Limits, page: str, about: dict[str, Any]) -> None:
        self._model, self._limits, self._page, self._about = model, limits, page, about
        self._line, self._metrics = Line(limits.queue), Metrics()

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"X-Content-Type-Options": "nosniff"})

    async def health(self, request: Request) -> Response:
        waiting = max(0, self._line.taken - 1)
        return JSONResponse({"status": "ok", "waiting": waiting, "queue": self._limits.queue})

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._metrics.text(self._line.taken, self._limits.queue))

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self._about)

    async def predict(self, request: Request) -> Response:
        """Answers with masks, or with why there are none; see `openapi`."""
        try:
            with self._line.enter() as place:
                answer = await self._in_time(request, place)
        except FullError:
            text = f"{self._limits.queue} requests wait already; come again in {_RETRY} s."
            await self._discard(request)
            answer = _error(503, text, {"Retry-After": _RETRY})
        except HTTPException as error:
            answer = _error(error.status_code, error.detail)
        except UserError as error:
            answer = _error(400, str(error))
        except ClientDisconnect:
            answer = _error(400, "the client left before its request was read.")
        except Exception as error:
            answer = self._unforeseen(error)
        self._metrics.answers[answer.status_code] += 1
        return answer

    async def _discard(self, request: Request) -> None:
        """Takes what a client still sends, and keeps none of it: else many do not read answers."""
        left = self._limits.bytes
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(self._limits.seconds):
                async for part in request.stream():
                    left -= len(part)
                    if left < 0:
                        break

    async def _in_time(self, request: Request, place: Place) -> Response:
        seconds, uploads = self._limits.seconds, None
        try:
            async with asyncio.timeout(seconds):
                uploads = await read_uploads(request, self._limits)
                kind = choose_kind(request.headers.get("accept", ""))
                given = uploads
                return await place.run(lambda: self._work(given, kind, place))
        except TimeoutError:
            if uploads is None:
                raise HTTPException(408, f"the request was not read in {seconds} s.") from None
            text = f"not done in {seconds} s; send fewer or smaller images, or come again."
            raise HTTPException(504, text) from None

    def _work(self, uploads: Sequence[Upload], kind: str, place: Place) -> Response:
        """Decodes and predicts one image after the other; runs in the worker."""
        started, found = time.perf_counter(), []
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for upload in uploads:
                if place.is_left():
                    break
                image = decode(upload, self._model.spec, self._limits.pixels)
                found.append(Predicted(upload.name, self._model.predict(image)))
                self._metrics.images += 1
                self._metrics.pixels += math.prod(found[-1].label.shape[:2])
        # Others are of libraries, such as Pillow's of pixels, which are limited here.
        notes = [str(one.message) for one in said if one.category is UserWarning]
        answer = make_answer(found, self._model.class_names, kind, notes) if found else Response()
        self._metrics.seconds += time.perf_counter() - started
        return answer

    def _unforeseen(self, error: Exception) -> Response:
        if isinstance(error, RuntimeError | MemoryError) and is_out_of_memory(error):
            return _error(413, "the images need more memory than there is; send smaller ones.")
        _LOG.error("a request failed", exc_info=error)
        return _error(500, f"the images could not be predicted ({type(error).__name__}).")


def make_app(
    model: Model,
    limits: Limits,
    page: str,
    *,
    title: str,
    version: str,
    hosts: Sequence[str] = ("*",),
) -> Starlette:
    """Makes the application.

    Args:
        model: What predicts; called in one thread, one image at a time.
        limits: What is taken.
        page: HTML of the page at "/".
        title: Of the model.
        version: Of this package.
        hosts: Names by which requests may call the server: of one on this computer alone not those
            that a page from elsewhere has pointed here.

    Returns:
        An ASGI application.
    """
    about = describe(title, version, model.class_names, limits)
    server = _Server(model, limits, page, about)
    routes = [
        Route("/", server.page),
        Route("/predict", server.predict, methods=["POST"]),
        Route("/healthz", server.health),
        Route("/metrics", server.metrics),
        Route("/openapi.json", server.openapi),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={HTTPException: _say},
    )


async def _say(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(text.split())}, status, headers)
