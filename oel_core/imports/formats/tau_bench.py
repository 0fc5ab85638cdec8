"""Results of tau-bench: tau2's `{simulations, info}` (https://github.com/sierra-research/tau2-bench) and the older
list of `{task_id, reward, traj}` (https://github.com/sierra-research/tau-bench), one result per entry.

tau2's messages have no system prompt; the domain's policy, which the agent reads there, is in `info`. Its simulated
user may have tools (`requestor`) that the agent does not see. The reward is feedback on the conversation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oel_core.imports import chat
from oel_core.imports.conversations import calls_of
from oel_core.imports.fields import first, mapping, moment, number, sequence, text
from oel_core.imports.records import Call, Feedback
from oel_core.runs.jsonl import LineError

_USER = "user"


def read(entry: Any) -> Iterator[Call]:
    """The calls of a file of simulations, a simulation, or an older result."""
    row = mapping(entry, "")
    if "simulations" in row:
        info = mapping(row.get("info") or {}, "info")
        for place, each in enumerate(sequence(row["simulations"], "simulations")):
            yield from _simulation(mapping(each, f"simulations.{place}"), info, f"simulations.{place}.messages")
    elif "traj" in row:
        id = f"{text(row.get('task_id'))}.{text(row.get('trial'))}"
        yield from _calls(sequence(row["traj"], "traj"), "traj", id, [_reward(row.get("reward"), row.get("info"))])
    elif "messages" in row:
        yield from _simulation(row, {}, "messages")
    else:
        raise LineError("", "it has neither simulations nor messages nor traj")


def _simulation(run: Mapping[str, Any], info: Mapping[str, Any], field: str) -> Iterator[Call]:
    world = mapping(info.get("environment_info") or {}, "info.environment_info")
    agent = mapping(info.get("agent_info") or {}, "info.agent_info")
    result = mapping(run.get("reward_info") or {}, "reward_info")
    messages = list(_seen_by_the_agent(sequence(run.get("messages"), field), field))
    policy = text(first(run, "policy") or first(world, "policy"))
    if policy and messages and messages[0].get("role") != "system":
        messages.insert(0, {"role": "system", "content": policy})
    given = [_reward(result.get("reward"), first(result, "reward_breakdown"))] if result else []
    at = moment(first(run, "start_time", "timestamp"))
    for call in _calls(messages, field, text(run.get("id")), given):
        yield call.model_copy(update={"model": text(agent.get("llm")), "at": at})


def _calls(messages: Sequence[Any], field: str, id: str, given: Sequence[Feedback]) -> Iterator[Call]:
    return calls_of(chat.prompt(list(messages), None, field), id, session=id, feedback=given)


def _seen_by_the_agent(messages: Sequence[Any], field: str) -> Iterator[Mapping[str, Any]]:
    for place, each in enumerate(messages):
        said = mapping(each, f"{field}.{place}")
        if "tool_messages" in said:
            yield from _seen_by_the_agent(sequence(said["tool_messages"], f"{field}.{place}.tool_messages"), field)
        elif said.get("role") == "tool":
            if said.get("requestor") != _USER:
                yield {**said, "tool_call_id": first(said, "tool_call_id", "id")}
        elif said.get("role") != _USER or said.get("content"):
            yield said


def _reward(reward: Any, why: Any) -> Feedback:
    return Feedback(source="code", whole=True, name="reward", score=number(reward), comment=text(why or None))
