"""The tool suites distinguish a model that follows its prompt from one that memorised a tool."""

import re
from collections import Counter

from oel_core.config.run import OelConfig
from oel_core.envs import make_env
from oel_core.envs.tools.env import ToolEnv
from oel_core.evaluation import make_suite
from oel_core.evaluation.tools import ToolRequests
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.types import Message

OWN = {"tool": 2, "requests": 2}


def config() -> OelConfig:
    return OelConfig.model_validate({"environment": {"name": "tools", "options": OWN, "max_turns": 3}})


def expert(suite: ToolRequests, kinds: set[str]) -> ScriptedPolicy:
    """Serves the suite's requests of these kinds, whatever it is told."""
    known: dict[str, str] = {}
    for env in environments(suite):
        for request in env.requests:
            if request.kind in kinds:
                known[f"Request: {request.text}"] = env.surface.write(env.tool, request.call)

    def respond(messages: tuple[Message, ...], seed: int) -> str:
        return known.get(messages[-1].content.splitlines()[-1], "no idea")

    return ScriptedPolicy(respond, name="expert", batch_size=4)


def environments(suite: ToolRequests) -> list[ToolEnv]:
    made = [make_env(suite.episodes.spec, plan.seed) for plan in suite.episodes.plans]
    return [env for env in made if isinstance(env, ToolEnv)]


def test_requests_are_counted_by_kind_and_only_those_that_came() -> None:
    suite = make_suite("tools", {"episodes": 40}, config())
    assert isinstance(suite, ToolRequests)
    envs = environments(suite)
    rare = {command.kind.name for command in envs[0].tool.commands[-2:]}
    common = {command.kind.name for command in envs[0].tool.commands} - rare
    nothing = suite.run(expert(suite, set())).extra["kinds"]
    assert nothing == {
        kind: {"asked": count, "passed": 0}
        for kind, count in sorted(Counter(env.requests[0].kind for env in envs).items())
    }
    first = suite.run(expert(suite, common))
    assert first.passed == 0
    assert set(first.extra["kinds"]) == common | rare
    assert all(counts["passed"] == (kind in common) * counts["asked"] for kind, counts in first.extra["kinds"].items())
    everything = suite.run(expert(suite, common | rare))
    assert everything.passed == 40
    assert sum(counts["passed"] for counts in everything.extra["kinds"].values()) == 80


def test_the_own_tool_is_asked_without_knowledge_and_another_one_with_its_truths() -> None:
    read: list[str] = []

    def listen(messages: tuple[Message, ...], seed: int) -> str:
        read.append(messages[0].content)
        return "no idea"

    policy = ScriptedPolicy(listen, name="listener", batch_size=4)
    own = make_suite("tools", {"episodes": 3}, config()).run(policy)
    assert own.extra["tool"] == 2
    assert not any("is done with" in text for text in read)
    read.clear()
    other = make_suite("other_tool", {"episodes": 3}, config()).run(policy)
    assert other.extra["tool"] == 3
    assert all(len(re.findall('" is done with: ', text)) >= 10 for text in read)
    named = make_suite("other_tool", {"episodes": 3, "world": {"tool": 9, "kinds": 12}}, config()).run(policy)
    assert named.extra["tool"] == 9
    assert len(re.findall('" is done with: ', read[-1])) == 11 + 3  # each level has an example
