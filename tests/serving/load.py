"""Sessions that talk to `oel serve` while it, its model's server and its champion are exchanged under them.

The recorder is a thread of the gateway's process, so a kill of the gateway is a kill of the recorder.
"""

import asyncio
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from oel_core.config.run import OelConfig, parse_config
from oel_core.policies.openai.managed_server import free_port
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key
from tasks.tracking.client import tracker_of
from tasks.tracking.registry import Registry, registry_of
from tasks.tracking.settings import TrackingSettings
from tests.fakes import tiny_model_folder
from tests.serving.model_server import MODEL
from tests.serving.process import ServeProcess, serve, start_model_server
from tests.serving.running import adapter

PROJECT, ROUNDS, TURNS = "shop", (1, 2), 4
DELAY_S = 0.005
"""Of the model's server, before an answer and before each piece of a stream."""


@dataclass(frozen=True)
class Exchange:
    """A request whose answer reached the client whole."""

    session: str
    text: str
    """The user's message; no two are the same."""
    answer: str
    version: str
    """What the answer said of itself."""
    id: str


@dataclass
class Sessions:
    """Clients, each of which holds one conversation after another; what fails is asked again in other words."""

    url: str
    token: str
    asked: set[str] = field(default_factory=set)
    answered: list[Exchange] = field(default_factory=list)
    rated: set[str] = field(default_factory=set)
    """Ids of answers whose feedback the gateway said to have in time for the episode."""
    failures: int = 0
    stopping: bool = False

    async def run(self, count: int) -> None:
        """Until `stopping`; raises what no client may see."""
        client = openai.AsyncOpenAI(base_url=self.url, api_key=self.token, max_retries=0, timeout=20)
        async with client, asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._converse(client, number))

    async def _converse(self, client: openai.AsyncOpenAI, number: int) -> None:
        talk = 0
        while not self.stopping:
            talk, messages = talk + 1, list[dict[str, str]]()
            while len(messages) < 2 * TURNS and not self.stopping:
                found = await self._exchange(client, f"session-{number}-{talk}", messages)
                if found is not None:
                    self.answered.append(found)
                    messages += [
                        {"role": "user", "content": found.text},
                        {"role": "assistant", "content": found.answer},
                    ]
                    if len(messages) == 2 * TURNS:
                        await self._rate(client, found)

    async def _exchange(
        self, client: openai.AsyncOpenAI, session: str, messages: Sequence[dict[str, str]]
    ) -> Exchange | None:
        text = f"{session} asks {len(self.asked)}"
        self.asked.add(text)
        try:
            stream: Any = await client.chat.completions.create(
                model=PROJECT,
                messages=[*messages, {"role": "user", "content": text}],  # type: ignore[list-item]
                stream=True,
                extra_headers={"X-OEL-Session": session},
            )
            parts = [part async for part in stream]
        except (openai.APIError, httpx.TransportError):
            parts = []
        if not parts or parts[-1].choices[0].finish_reason != "stop":
            self.failures += 1
            await asyncio.sleep(0.1)
            return None
        said = "".join(part.choices[0].delta.content or "" for part in parts)
        (version,) = {part.system_fingerprint for part in parts}
        return Exchange(session, text, said, version, parts[0].id)

    async def _rate(self, client: openai.AsyncOpenAI, about: Exchange) -> None:
        body = {"response_id": about.id, "thumbs": "up", "comment": about.text}
        try:
            said: Any = await client.post("/feedback", body=body, cast_to=object)
        except (openai.APIError, httpx.TransportError):
            return
        if said["status"] == "recorded":
            self.rated.add(about.id)


def config_for(root: Path, port: int, **serve: Any) -> OelConfig:
    """A project whose champions are adapters of a model's server on this port."""
    values = {
        "model": {
            "path": str(root / "tiny"),
            "backend": "openai",
            "lora": {},
            "openai": {"base_url": f"http://127.0.0.1:{port}/v1", "give_up_after_s": 600},
        },
        "experience": {"inbox": str(root / "inbox")},
        # the model server's answers have digests in them, which masking takes for secrets
        "serve": {"refresh_s": 0.3, "session_idle_s": 3, "concurrency": 64, "privacy": "keep", **serve},
    }
    return parse_config(values, "load")


def registered(root: Path, config: OelConfig) -> tuple[RunFolder, Registry]:
    """The project with two finished rounds, whose models are adapters and are registered."""
    tiny_model_folder(root)
    run = open_run(root, PROJECT)
    adopt_config(run, config)
    for number in ROUNDS:

        def weights(folder: Path, number: int = number) -> dict[str, float]:
            adapter(folder / "checkpoint", root / "tiny", b"weights %d" % number)
            return {}

        run.perform(stage_key(config, number, "distill", [str(number)], {}), weights)
        checkpoint, digest = run.stage_path(number, "distill") / "checkpoint", run.manifest(number, "distill").digest
        tracker_of(TrackingSettings(), run).register(str(number), checkpoint, digest)
    return run, registry_of(TrackingSettings(), run)


@dataclass
class Deployment:
    """Gateway, model's server and registry, which are killed, exchanged and moved."""

    root: Path
    draw: random.Random
    port: int = field(default_factory=free_port)
    own: int = field(default_factory=free_port)
    kills: dict[str, int] = field(default_factory=lambda: {"gateway": 0, "upstream": 0, "champion": 0})

    def start(self, **options: Any) -> None:
        _, self.registry = registered(self.root, config_for(self.root, self.port, **options))
        self.upstream: subprocess.Popen[bytes] = start_model_server(self.port, DELAY_S)
        self.gateway: ServeProcess = self._serve()

    def _serve(self) -> ServeProcess:
        return serve(self.root, PROJECT, "--port", str(self.own))

    def disturb(self) -> None:
        """One kill or change, drawn at random; the rarest so far twice as likely as the others."""
        rarest = min(self.kills, key=lambda name: self.kills[name])
        what = self.draw.choice([*self.kills, rarest])
        self.kills[what] += 1
        if what == "gateway":
            self.gateway.kill()
            self.gateway = self._serve()
        elif what == "upstream":
            self.upstream.kill()
            self.upstream.wait()
            self.upstream = start_model_server(self.port, DELAY_S)
        else:
            version = self.registry.version_of_round(self.draw.choice(ROUNDS))
            self.registry.promote(version, id=f"move-{self.kills[what]}", reason="load")

    def stop(self) -> None:
        self.gateway.stop()
        self.upstream.kill()
        self.upstream.wait()


def served_name(version: str) -> str:
    """How an answer of the model's server begins that is of this version."""
    _, label, digest = version.split("-")
    return MODEL if label == "base" else f"oel-{digest}"
