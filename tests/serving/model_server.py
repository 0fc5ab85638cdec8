"""`python -m tests.serving.model_server PORT DELAY_S`: a model's server that echoes, streams, and calls tools."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

MODEL = "tiny"
WORDS = 8
"""Pieces of a streamed answer."""


@dataclass
class ModelServer:
    """What it answers and what it was asked."""

    delay_s: float = 0.0
    """Before an answer, and before each piece of a stream."""
    gives_ids: bool = True
    break_after: int | None = None
    """Pieces after which a stream ends without an end."""
    status: int = 200
    adapters: dict[str, str] = field(default_factory=dict)
    loads: bool = True
    """It loads adapters."""
    writes_name: bool = True
    """The model writes a call with its function; otherwise its arguments only."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    model: str = MODEL
    """Its name of the base model."""

    def ids(self, text: str) -> list[int]:
        """One token a byte, as `byte_tokenizer` has it after its three control tokens, and an end token."""
        from tests.fakes import byte_tokenizer

        return [*byte_tokenizer()(text)["input_ids"], 2]

    async def complete(self, body: dict[str, Any]) -> Response:
        self.asked.append(body)
        if self.status != 200:
            return JSONResponse({"error": {"message": "no"}}, self.status, headers={"retry-after": "3"})
        if body["model"] not in (self.model, *self.adapters):
            return JSONResponse({"error": {"message": f"The model `{body['model']}` does not exist."}}, 404)
        await asyncio.sleep(self.delay_s)
        content = f"{body['model']}: {body['messages'][-1]['content']}"
        written = content
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if body.get("tools") and body["messages"][-1]["role"] == "user":
            function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
            message = {"role": "assistant", "content": None}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
            written = f"<tool_call>{json.dumps(function)}</tool_call>" if self.writes_name else function["arguments"]
        if body.get("stream"):
            return StreamingResponse(self._stream(body, message, written), media_type="text/event-stream")
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs(body, content)}
        answer: dict[str, Any] = {"id": "x", "model": body["model"], "choices": [choice], "usage": usage(content)}
        if self.gives_ids and body.get("return_token_ids"):
            answer["prompt_token_ids"] = self.ids("prompt")
            choice["token_ids"] = self.ids(written)
        return JSONResponse(answer)

    async def _stream(self, body: dict[str, Any], message: dict[str, Any], written: str) -> AsyncIterator[bytes]:
        ids = self.gives_ids and body.get("return_token_ids")
        first = {"prompt_token_ids": self.ids("prompt")} if ids else {}
        yield chunk({"role": "assistant", "content": ""}, **first)
        for number, call in enumerate(message.get("tool_calls", ())):
            function = call["function"]
            yield chunk({"tool_calls": [{"index": number, **call, "function": {**function, "arguments": ""}}]})
            arguments = {"tool_calls": [{"index": number, "function": {"arguments": function["arguments"]}}]}
            yield chunk(arguments, {"token_ids": self.ids(written)} if ids else {})
        content = message["content"] or ""
        size = -(-len(content) // WORDS) or 1
        for number, at in enumerate(range(0, len(content), size)):
            if number == self.break_after:
                return
            await asyncio.sleep(self.delay_s)
            part = content[at : at + size]
            last = at + size >= len(content)
            tokens = {"token_ids": self.ids(part)[: None if last else -1]} if ids else {}
            yield chunk({"content": part}, {**tokens, "logprobs": logprobs(body, part)})
        yield chunk({}, finish="tool_calls" if message.get("tool_calls") else "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield event({"id": "x", "choices": [], "usage": usage(content)})
        yield b"data: [DONE]\n\n"

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            adapters = [{"id": name, "parent": self.model} for name in self.adapters]
            return {"data": [{"id": self.model, "max_model_len": 2048}, *adapters]}

        @app.get("/health")
        async def health() -> Response:
            return Response()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            return await self.complete(await request.json())

        @app.post("/v1/load_lora_adapter")
        async def load(request: Request) -> Response:
            body = await request.json()
            if not self.loads:
                return JSONResponse({"error": {"message": "no room"}}, 400)
            self.adapters[body["lora_name"]] = body["lora_path"]
            return Response("Success")

        return app


def logprobs(body: dict[str, Any], content: str) -> dict[str, Any] | None:
    """One token a character, if they are asked for."""
    if not body.get("logprobs"):
        return None
    return {"content": [{"token": one, "logprob": -0.5, "bytes": None, "top_logprobs": []} for one in content]}


def usage(content: str) -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": len(content) + 1, "total_tokens": len(content) + 8}


def chunk(delta: dict[str, Any], more: dict[str, Any] | None = None, finish: str | None = None, **top: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **(more or {})}
    return event({"id": "x", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice], **top})


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


if __name__ == "__main__":
    server = ModelServer(delay_s=float(sys.argv[2]))
    server.ids("")  # its imports take longer than some requests wait
    uvicorn.run(server.app(), port=int(sys.argv[1]), log_level="warning", access_log=False)
