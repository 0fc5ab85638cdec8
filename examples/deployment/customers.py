"""The shop's customers, as many as it has: they ask, they vote, and the shop's clerks correct.

    python customers.py --url http://127.0.0.1:8010/v1 --token FILE --model shop --log visits.jsonl

Runs until it is told to stop (SIGTERM). Each line of the log is one visit, with the truth that only the shop knows.
"""

import argparse
import json
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import openai
from agent import Assistant, Reply
from shop import DESK_OF, TOOL
from wordings import Request, draw_request


@dataclass(frozen=True)
class Manners:
    """How customers behave."""

    pause_s: float
    """Mean time between two visits of one customer, seconds."""
    votes: float
    """Share of visits after which the customer votes."""
    corrections: float
    """Share of wrong calls that a clerk corrects."""


class Street:
    """Customers that visit the shop at the same time, each in a thread."""

    def __init__(self, client: openai.OpenAI, model: str, manners: Manners, log: Path, seed: int) -> None:
        self._client, self._assistant = client, Assistant(client, model)
        self._manners, self._log, self._seed = manners, log, seed
        self._writing, self.closed = threading.Lock(), threading.Event()

    def customer(self, number: int) -> None:
        """Visits again and again, each time as another person. A failed visit is logged like any other."""
        rng, visits = random.Random(f"{self._seed} {number}"), 0
        while not self.closed.wait(rng.expovariate(1 / self._manners.pause_s)):
            visits += 1
            name, request = f"{number}-{visits}", draw_request(rng)
            try:
                line = self._visit(name, request, rng)
            except openai.OpenAIError as error:
                line = {"at": time.time(), "visit": name, "error": f"{type(error).__name__}: {error}"}
            with self._writing, self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _visit(self, name: str, request: Request, rng: random.Random) -> dict[str, object]:
        reply = self._assistant.answer(request.text, f"visit-{name}", f"customer-{name}")
        right = {"matter": request.matter, "desk": DESK_OF[request.matter]}
        good = reply.call == right
        said = self._opinion(good, right, rng)
        if said:
            self._client.post("/feedback", body={"response_id": reply.response_id, **said}, cast_to=object)
        return _line(name, request, reply, good) | {"said": sorted(said)}

    def _opinion(self, good: bool, right: dict[str, str], rng: random.Random) -> dict[str, str]:
        votes, corrects = rng.random() < self._manners.votes, rng.random() < self._manners.corrections
        said = {"thumbs": "up" if good else "down"} if votes else {}
        if corrects and not good:
            said["correction"] = json.dumps({"name": TOOL["function"]["name"], "arguments": right})
        return said


def _line(name: str, request: Request, reply: Reply, good: bool) -> dict[str, object]:
    desk = reply.call["desk"] if reply.call else None
    return {
        "at": time.time(),
        "visit": name,
        "version": reply.version,
        "matter": request.matter,
        "desk": desk,
        "good": good,
        "told": reply.text,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="the endpoint, like http://127.0.0.1:8010/v1")
    parser.add_argument("--token", type=Path, required=True, help="file with the bearer token")
    parser.add_argument("--model", required=True, help="the model's name at the endpoint")
    parser.add_argument("--log", type=Path, required=True, help="JSONL file to append visits to")
    parser.add_argument("--customers", type=int, default=8, help="at the same time")
    parser.add_argument("--pause", type=float, default=4.0, help="mean seconds between two visits of one customer")
    parser.add_argument("--votes", type=float, default=0.9, help="share of visits with a vote")
    parser.add_argument("--corrections", type=float, default=0.7, help="share of wrong calls that a clerk corrects")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    client = openai.OpenAI(base_url=options.url, api_key=options.token.read_text().strip(), timeout=120)
    manners = Manners(options.pause, options.votes, options.corrections)
    street = Street(client, options.model, manners, options.log, options.seed)
    signal.signal(signal.SIGTERM, lambda *_: street.closed.set())
    threads = [threading.Thread(target=street.customer, args=(number,)) for number in range(options.customers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
