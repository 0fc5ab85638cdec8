"""examples/deployment: the agent uses nothing of the project, the seed model knows nothing of the shop's desks, and the
whole of it runs by its one command."""

import ast
import importlib
import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oel_core.config.run import ModelConfig, load_config
from oel_core.config.sampling import Sampling
from oel_core.policies import load_policy, release
from oel_core.policies.base import Policy, Request
from oel_core.policies.text.chat import prompt_ids
from oel_core.prompts.play import with_knowledge
from oel_core.seed_lm.tokenizer import build_tokenizer
from oel_core.types import Message
from tests.serving.running import Player, config_for, handed_over, playing, serving

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "deployment"
FOREIGN = ("agent.py", "customers.py", "shop.py", "wordings.py", "visits.py", "run.py")
GREEDY = Sampling(temperature=0.0, max_tokens=32)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the example by its name."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield importlib.import_module
    for path in EXAMPLE.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("name", FOREIGN)
def test_the_agents_side_imports_nothing_of_the_project(name: str) -> None:
    tree = ast.parse((EXAMPLE / name).read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {one for one in found if one.split(".")[0] in ("oel_core", "tasks", "flows")}


def visited(example: Any, inbox: Path, log: Path, player: Player, **manners: float) -> list[dict[str, Any]]:
    """What the customers' log has after a few visits of a gateway where this player answers."""
    customers: ModuleType = example("customers")
    with playing(player), serving(config_for(inbox)) as served:
        street = customers.Street(served.client, "shop", customers.Manners(0.01, **manners), log, seed=1)
        thread = threading.Thread(target=street.customer, args=(0,))
        thread.start()
        while not log.exists() or log.read_text().count("\n") < 5:
            assert thread.is_alive()
        street.closed.set()
        thread.join(30)
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_customers_ask_vote_and_correct_and_all_of_it_is_recorded(example: Any, tmp_path: Path) -> None:
    shop = example("shop")

    def say(messages: tuple[Message, ...], path: str) -> str:
        if messages[-1].role == "tool":
            return f"Done: {messages[-1].content}"
        return json.dumps({"name": "hand_over", "arguments": {"matter": "refund", "desk": "snipe"}})

    player = Player(say)
    lines = visited(example, tmp_path / "inbox", tmp_path / "log", player, votes=1.0, corrections=1.0)
    assert [line["good"] for line in lines] == [line["matter"] == "refund" for line in lines]
    assert all(line["told"] == "Done: " + line["told"].removeprefix("Done: ") for line in lines)
    episodes = {one.turns[0].messages[-1].content: one for one in handed_over(tmp_path / "inbox")}
    assert len(episodes) == len(lines)
    for episode in episodes.values():
        first, second = episode.turns
        assert first.messages[0].tools[0].name == "hand_over"
        assert "was handed to the snipe desk" in second.messages[-1].content
        (given,) = first.given
        if not given.thumbs:
            right = json.loads(given.correction)["arguments"]
            assert shop.DESK_OF[right["matter"]] == right["desk"]
    assert {line["version"] for line in lines} == {"shop-one"}


def test_a_model_that_calls_nothing_or_nonsense_is_answered_and_voted_down(example: Any, tmp_path: Path) -> None:
    said = iter(["I do not know.", '{"name": "hand_over", "arguments": {"desk": 3}}', "Sorry."] * 20)
    player = Player(lambda messages, path: next(said))
    lines = visited(example, tmp_path / "inbox", tmp_path / "log", player, votes=1.0, corrections=0.0)
    assert not any(line["good"] or "error" in line for line in lines)
    assert {line["told"] for line in lines} == {"I do not know.", "Sorry."}
    assert all(one.turns[0].given[0].thumbs is False for one in handed_over(tmp_path / "inbox"))


def test_shops_of_the_corpus_share_at_most_one_desk_with_the_examples(example: Any) -> None:
    corpus, shop = example("corpus"), example("shop")
    rng = random.Random(3)
    drawn = [corpus.draw_desks(rng) for _ in range(2000)]
    assert max(sum(one[matter] == desk for matter, desk in shop.DESK_OF.items()) for one in drawn) == 1
    assert {desk for one in drawn for desk in one.values()} == set(shop.DESKS)
    assert list(shop.DESK_OF) == list(example("wordings").MATTERS)


def test_the_corpus_is_written_as_the_gateway_writes_prompts(example: Any) -> None:
    corpus = example("corpus")
    tokenizer, rng = build_tokenizer(corpus.COURSE.phrases), random.Random(4)
    request = example("wordings").draw_request(rng)
    for messages in (corpus.first_prompt(request), corpus.second_prompt(request, "heron")):
        plain = corpus.read(messages, "")
        chat = [message.model_dump() for message in plain]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        assert tokenizer(text)["input_ids"] == prompt_ids(tokenizer, messages, thinking=False)
        assert len(tokenizer(text)["input_ids"]) < 90


def test_the_shipped_model_is_small_and_its_tokenizer_the_one_that_the_corpus_gives(example: Any) -> None:
    model = EXAMPLE / "model"
    assert sum(path.stat().st_size for path in model.iterdir()) < 4 * 2**20
    shipped = json.loads((model / "tokenizer.json").read_text())
    built = json.loads(build_tokenizer(example("corpus").COURSE.phrases).backend_tokenizer.to_str())
    assert shipped["added_tokens"] == built["added_tokens"]


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    yield load_policy(str(EXAMPLE / "model"), ModelConfig(batch_size=64))
    release()


def right_desks(example: Any, policy: Policy, knowledge: str) -> float:
    """Share of 128 requests that go to the right desk of the example's shop."""
    corpus, shop, rng = example("corpus"), example("shop"), random.Random(5)
    asked = [example("wordings").draw_request(rng) for _ in range(128)]
    requests = [Request(with_knowledge(corpus.first_prompt(one), knowledge), 1) for one in asked]
    said = [one.text for one in policy.generate(requests, GREEDY)]
    wanted = [corpus.CALL.format(matter=one.matter, desk=shop.DESK_OF[one.matter]) for one in asked]
    return sum(one == other for one, other in zip(said, wanted, strict=True)) / len(asked)


def test_the_model_finds_the_desk_that_knowledge_names_and_none_without_it(example: Any, policy: Policy) -> None:
    corpus, shop = example("corpus"), example("shop")
    items = [corpus.ITEM.format(matter=matter, desk=desk) for matter, desk in shop.DESK_OF.items()]
    assert right_desks(example, policy, "\n".join(items)) > 0.8
    assert right_desks(example, policy, "") < 0.25


def test_the_settings_are_valid() -> None:
    for name in ("seed.yaml", "qwen.yaml"):
        config = load_config(str(EXAMPLE / name))
        assert (config.environment.name, config.evaluate.held_out) == ("recorded", "cases")


@pytest.mark.services
def test_the_example_learns_from_its_customers(tmp_path: Path) -> None:
    """Its one command with one promotion in place of two."""
    root = tmp_path / "all"
    command = [sys.executable, str(EXAMPLE / "run.py"), "--root", str(root), "--promotions", "1", "--after", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"round \d+: promoted", done.stdout), done.stdout
    visits = [json.loads(line) for line in (root / "visits.jsonl").read_text().splitlines()]
    assert not [line for line in visits if "error" in line]
    versions = list(dict.fromkeys(line["version"] for line in visits))
    assert len(versions) == 2
    first, last = ([line["good"] for line in visits if line["version"] == one] for one in versions)
    assert sum(last) / len(last) > sum(first) / len(first)
    page = (root / "shop" / "report.html").read_text(encoding="utf-8")
    assert '<h2 id="deployment">' in page
    assert all(version in page for version in versions)
