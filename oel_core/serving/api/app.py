"""The gateway as an ASGI application: chat completions, models, feedback, health and metrics."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from oel_core.config.serving import ServeConfig
from oel_core.runs.jsonl import LineError
from oel_core.serving.answering.base import ChatRequest
from oel_core.serving.api.access import require_token
from oel_core.serving.api.answers import event
from oel_core.serving.api.chat import Answering, ChatService
from oel_core.serving.api.limits import RateLimit
from oel_core.serving.api.requests import chat_request, json_object
from oel_core.serving.errors import ApiError
from oel_core.serving.recording.feedback import parse_feedback

log = logging.getLogger(__name__)
UNREAD_S = 5.0
"""Seconds after an answer's deadline for which its client may still read."""
SESSION, VERSION = "X-OEL-Session", "X-OEL-Version"
PUBLIC_PATHS = ("/healthz",)
"""Paths that need no token."""
CONTENT = "text/plain; version=0.0.4; charset=utf-8"


def gateway(chats: ChatService, config: ServeConfig, token: str) -> FastAPI:
    """The application. While it runs, the recorder writes and the registry is polled for a new champion."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await chats.start()
        yield
        await chats.close()

    guard = [Depends(_guard(token, RateLimit(config.requests_per_minute)))]
    app = FastAPI(title="oel", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, dependencies=guard)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    _add_chat(app, chats, config)
    _add_feedback(app, chats, config)
    _add_views(app, chats)
    return app


def _guard(token: str, rate: RateLimit) -> Callable[[Request], Awaitable[None]]:
    async def guard(request: Request) -> None:
        if request.url.path in PUBLIC_PATHS:
            return
        require_token(request.headers.get("authorization"), token)
        if request.method == "POST":
            rate.take()

    return guard


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, headers=dict(error.headers()))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _refused(request, ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))


async def _failed(request: Request, error: Exception) -> Response:
    return await _refused(request, ApiError(500, "the gateway failed; its log says how"))


async def _body(request: Request, most: int) -> bytes:
    """The request's body. Raises ApiError as soon as it exceeds `most` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise ApiError(413, f"the body has more than {most} bytes (serve.max_body_bytes)")
        parts.append(part)
    return b"".join(parts)


def _add_chat(app: FastAPI, chats: ChatService, config: ServeConfig) -> None:
    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        began = time.monotonic()
        try:
            chat = chat_request(await _body(request, config.max_body_bytes), request.headers.get(SESSION, ""))
            if chat.stream:
                answering = await _unless_disconnected(request, chats.begin(chat))
                chats.metrics.first.observe(time.monotonic() - began)
                return _Stream(_counted(chats, answering, began), answering, _version(answering))
            response: Response = await _unless_disconnected(request, _whole(chats, chat))
        except ApiError as error:
            chats.metrics.requests.labels(_outcome(error)).inc()
            raise
        _answered(chats, began)
        return response


async def _whole(chats: ChatService, chat: ChatRequest) -> Response:
    answering = await chats.begin(chat)
    try:
        return JSONResponse(await answering.whole(), headers=_version(answering))
    finally:
        await answering.close()


def _version(answering: Answering) -> dict[str, str]:
    return {VERSION: answering.reply.fingerprint}


def _outcome(error: ApiError) -> str:
    return "left" if error.status == CLIENT_CLOSED_REQUEST else "refused" if error.status < 500 else "failed"


def _answered(chats: ChatService, began: float) -> None:
    chats.metrics.requests.labels("answered").inc()
    chats.metrics.seconds.observe(time.monotonic() - began)


async def _counted(chats: ChatService, answering: Answering, began: float) -> AsyncGenerator[bytes]:
    outcome = "left"
    try:
        async for part in answering.streamed():
            yield part
        outcome = "answered"
        _answered(chats, began)
    except ApiError as error:
        outcome = "failed"
        log.error("an answer broke off: %s", error)
        yield event(error.body())
    finally:
        if outcome != "answered":
            chats.metrics.requests.labels(outcome).inc()


class _Stream(StreamingResponse):
    """Server-sent events. Releases the answer's resources at the end, also if the client disconnects early or does not
    read: what it has not read some time after the answer's deadline is not sent."""

    def __init__(self, events: AsyncGenerator[bytes], answering: Answering, headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache", **headers})
        self._events, self._answering = events, answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout_at(self._answering.deadline + UNREAD_S):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            log.warning("a client did not read its answer within serve.timeout_s: the connection is closed")
        finally:
            await self._events.aclose()
            await self._answering.close()


CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that closed the connection; it is never sent."""


async def _unless_disconnected(request: Request, work: Awaitable[Any]) -> Any:
    """The result of `work`, which is cancelled if the client disconnects. Raises ApiError then."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(CLIENT_CLOSED_REQUEST, "the client closed the connection")
    finally:
        for one in (task, disconnected):
            if not one.done():
                one.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_feedback(app: FastAPI, chats: ChatService, config: ServeConfig) -> None:
    @app.post("/v1/feedback")
    async def rate(request: Request) -> Response:
        body = json_object(await _body(request, config.max_body_bytes))
        try:
            given = parse_feedback(body, config.top_score)
        except LineError as error:
            raise ApiError(400, error.reason, param=error.field or None) from error
        try:
            taken = await asyncio.wrap_future(chats.recorder.add_feedback(given))
        except (sqlite3.Error, OSError) as error:
            chats.metrics.feedback.labels("failed", "").inc()
            raise ApiError(503, "the feedback was not written down: send it again later", retry_s=5.0) from error
        if taken is None:
            chats.metrics.feedback.labels("unknown", "").inc()
            about = given.response or given.session
            raise ApiError(
                404, f"nothing is known of '{about}'", param="response_id" if given.response else "session_id"
            )
        chats.metrics.feedback.labels("late" if taken.late else "recorded", taken.version).inc()
        return JSONResponse({"object": "feedback", "status": "late" if taken.late else "recorded"}, 201)


def _add_views(app: FastAPI, chats: ChatService) -> None:
    began = int(time.time())

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {"id": chats.project, "object": "model", "created": began, "owned_by": "oel"}
        return {"object": "list", "data": [model | {"version": chats.champions.version}]}

    @app.get("/healthz")
    async def health() -> Response:
        version = chats.champions.version
        recording = "ok" if chats.recorder.healthy else "failing"
        status = "stopping" if version is None else "ok" if chats.recorder.healthy else "degraded"
        candidate = chats.champions.candidate
        trying = None if candidate is None else candidate.champion.version
        body = {"status": status, "version": version, "candidate": trying, "recorder": recording}
        return JSONResponse(body, 503 if version is None else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        chats.metrics.running.set(chats.queue.running)
        chats.metrics.waiting.set(chats.queue.waiting)
        return Response(chats.metrics.text(), media_type=CONTENT)
