"""What the gateway adds to the answers of a model's server.

    python -m tests.benchmarks.gateway --seconds 20

A model's server that answers after a fixed time, `oel serve` before it, and clients, in three processes. Every client
asks the server and the gateway by turns, so both are measured under the same load of the machine. The prompts are
conversations of a few hundred characters that grow; the gateway masks and records every one.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from oel_core.runs.guardian import free_port
from tests.benchmarks import report
from tests.fakes import tiny_model_folder
from tests.serving.model_server import MODEL
from tests.serving.process import model_server, serve

DELAY_S = 0.02
"""Of the server: before an answer, and before each of 8 pieces of a stream."""
QUESTION = (
    "Is the jacket that I looked at yesterday still there in blue, and could it be sent to the shop in the harbour? "
)
TURNS = 4


@dataclass(frozen=True)
class Place:
    """Where clients ask."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Times:
    """Seconds of requests."""

    first: list[float] = field(default_factory=list)
    """Until the first content of a stream."""
    whole: list[float] = field(default_factory=list)


async def ask(
    http: httpx.AsyncClient, place: Place, messages: Sequence[Mapping[str, str]], times: Times, stream: bool
) -> None:
    body = {"model": place.model, "messages": list(messages), "stream": stream}
    began = time.perf_counter()
    first = None
    async with http.stream("POST", place.url + "/chat/completions", json=body, headers=dict(place.headers)) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            if first is None and b'"content":' in part.replace(b'"content":""', b"").replace(b'"content": ""', b""):
                first = time.perf_counter() - began
    times.whole.append(time.perf_counter() - began)
    times.first.append(first or times.whole[-1])


async def client(number: int, places: Sequence[Place], times: Sequence[Times], until: float, stream: bool) -> None:
    """Conversations of a few turns, each with both places."""
    async with httpx.AsyncClient(timeout=60) as http:
        talk = 0
        while time.perf_counter() < until:
            talk += 1
            messages: list[dict[str, str]] = []
            for turn in range(TURNS):
                messages.append({"role": "user", "content": f"{number}.{talk}.{turn} {QUESTION}"})
                for place, seen in zip(places, times, strict=True):
                    await ask(http, place, messages, seen, stream)
                messages.append({"role": "assistant", "content": f"{MODEL}: {messages[-1]['content']}"})


async def measure(places: Sequence[Place], clients: int, seconds: float, stream: bool) -> list[Times]:
    times = [Times() for _ in places]
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(number, places, times, until, stream) for number in range(clients)))
    return times


def row(name: str, clients: int, own_s: float, direct: Sequence[float], through: Sequence[float]) -> tuple[str, ...]:
    """Milliseconds: medians, and the differences of medians, 95th and 99th percentiles; `own_s`: see `cpu_s`."""
    hundredths = [statistics.quantiles(values, n=100) for values in (direct, through)]
    added = [1000 * (hundredths[1][percent - 1] - hundredths[0][percent - 1]) for percent in (50, 95, 99)]
    return (
        name,
        str(clients),
        str(len(through)),
        *(f"{1000 * values[49]:.1f}" for values in hundredths),
        *(f"{value:+.1f}" for value in added),
        f"{1000 * own_s:.1f}",
    )


def cpu_s(process: psutil.Process) -> float:
    """Processor time of the gateway, which other work of the machine changes little, seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 10, 50], help="sessions at once")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root, port = Path(folder), free_port()
        model = (
            f"{{path: {tiny_model_folder(root)}, backend: openai, openai: {{base_url: 'http://127.0.0.1:{port}/v1'}}}}"
        )
        (root / "shop").mkdir()
        lines = [f"model: {model}", f"experience: {{inbox: {root / 'inbox'}}}", "serve: {concurrency: 64}"]
        (root / "shop" / "preset.yaml").write_text("\n".join(lines) + "\n")
        with model_server(port, DELAY_S):
            gateway = serve(root, "shop", "--port", "0")
            process = psutil.Process(gateway.process.pid)
            through = Place(gateway.url, "shop", {"Authorization": f"Bearer {gateway.token}"})
            places = [Place(f"http://127.0.0.1:{port}/v1", MODEL), through]
            for clients in options.clients:
                for stream in (False, True):
                    before = cpu_s(process)
                    direct, added = asyncio.run(measure(places, clients, options.seconds, stream))
                    own = (cpu_s(process) - before) / len(added.whole)
                    if stream:
                        rows.append(row("stream, first content", clients, own, direct.first, added.first))
                    rows.append(row("stream, end" if stream else "answer", clients, own, direct.whole, added.whole))
            gateway.stop()
    head = (
        "ms",
        "clients",
        "requests",
        "server",
        "gateway",
        "added, median",
        "added, 95th percentile",
        "added, 99th percentile",
        "gateway's processor time",
    )
    print(report.table(head, rows))


if __name__ == "__main__":
    main()
