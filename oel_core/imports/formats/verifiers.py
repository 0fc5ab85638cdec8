"""Results of verifiers (https://github.com/PrimeIntellect-ai/verifiers): version 1's `traces.jsonl`, one trace per
line, and the older `results.jsonl` of `{prompt, completion, reward}`.

A trace is a graph of messages: every sampled one is a call, its ancestors are the prompt. Nodes have the exact token
ids. The weighted sum of the rewards is feedback on the conversation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oel_core.imports import chat
from oel_core.imports.conversations import calls_of
from oel_core.imports.fields import first, mapping, moment, number, sequence, text
from oel_core.imports.records import Call, Feedback
from oel_core.runs.jsonl import LineError
from oel_core.types import StopReason


def read(entry: Any) -> Iterator[Call]:
    """The calls of a trace or a result."""
    row = mapping(entry, "")
    if "nodes" in row:
        yield from _trace(row)
    elif "completion" in row:
        yield from _result(row)
    else:
        raise LineError("nodes", "it is missing, and so is completion: this is no trace and no result")


def _trace(trace: Mapping[str, Any]) -> Iterator[Call]:
    nodes = [mapping(each, f"nodes.{place}") for place, each in enumerate(sequence(trace.get("nodes"), "nodes"))]
    seen = [mapping(each, f"calls.{place}") for place, each in enumerate(sequence(trace.get("calls"), "calls"))]
    notes = {each["node"]: each for each in seen if isinstance(each.get("node"), int)}
    sampled = [place for place, node in enumerate(nodes) if node.get("sampled") is True]
    id, given = text(trace.get("id")), _rewards(trace)
    for place in sampled:
        path = _path(nodes, place)
        said = [mapping(nodes[each].get("message"), f"nodes.{each}.message") for each in path]
        tools = first(nodes[path[0]], "tools") or first(trace, "tools")
        note = notes.get(place, {})
        ended = first(note, "finish_reason") or first(nodes[place], "finish_reason")
        read_ids, sampled_ids = _token_ids(nodes, path)
        yield Call(
            id=f"{id}#{place}",
            trace=id,
            session=id,
            at=moment(mapping(trace.get("timing") or {}, "timing").get("start")),
            messages=chat.prompt(said[:-1], tools, "nodes"),
            response=chat.message({"role": "assistant"} | dict(said[-1]), f"nodes.{place}.message"),
            model=text(first(note, "model")),
            prompt_tokens=len(read_ids),
            prompt_ids=read_ids,
            response_ids=sampled_ids,
            stop_reason=StopReason.LENGTH if ended == "length" else StopReason.EOS,
            feedback=given if place == sampled[-1] else (),
        )


def _path(nodes: Sequence[Mapping[str, Any]], place: int) -> list[int]:
    """The node and its ancestors, root first."""
    path = [place]
    while (parent := nodes[path[-1]].get("parent")) is not None:
        if not isinstance(parent, int) or not 0 <= parent < len(nodes) or parent in path:
            raise LineError(f"nodes.{path[-1]}.parent", "it is no other node")
        path.append(parent)
    return path[::-1]


def _token_ids(nodes: Sequence[Mapping[str, Any]], path: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Prompt and response ids of the path's last node; empty if a node has no ids."""
    spans = [sequence(nodes[place].get("token_ids"), f"nodes.{place}.token_ids") for place in path]
    own, mask = spans[-1], sequence(nodes[path[-1]].get("mask"), f"nodes.{path[-1]}.mask")
    if not all(spans):
        return (), ()
    if len(own) != len(mask):
        raise LineError(f"nodes.{path[-1]}.mask", f"it has {len(mask)} entries for {len(own)} token ids")
    begin = next((place for place, one in enumerate(mask) if one), len(own))
    return tuple(id for span in [*spans[:-1], own[:begin]] for id in span), tuple(own[begin:])


def _rewards(trace: Mapping[str, Any]) -> tuple[Feedback, ...]:
    """Feedback with the weighted sum of the rewards as score and each reward in the comment."""
    rewards = {name: each for name, each in mapping(trace.get("rewards") or {}, "rewards").items() if each is not None}
    if not rewards:
        return ()
    total, parts = 0.0, []
    for name, each in rewards.items():
        one = mapping(each, f"rewards.{name}") if not isinstance(each, (int, float)) else {"score": each}
        score, weight = number(one.get("score")), number(one.get("weight", 1.0))
        if score is None or weight is None:
            raise LineError(f"rewards.{name}", "it has no score")
        total += score * weight
        parts.append(f"{name} {score:g}")
    return (Feedback(source="code", whole=True, name="reward", score=number(total), comment=", ".join(parts)),)


def _result(row: Mapping[str, Any]) -> Iterator[Call]:
    prompt, completion = _said(row.get("prompt"), "user"), _said(row.get("completion"), "assistant")
    info = row.get("info")
    tools = first(info, "oai_tools", "tools") if isinstance(info, Mapping) else None
    messages = chat.prompt([*prompt, *completion], tools, "prompt")
    shots = [place for place, one in enumerate(messages[: len(messages) - len(completion)]) if one.role == "assistant"]
    reward = number(row.get("reward"))
    given = [] if reward is None else [Feedback(source="code", whole=True, name="reward", score=reward)]
    answer = text(row.get("answer"))
    if answer:
        given.append(Feedback(source="code", whole=True, name="answer", expected=answer))
    id = ".".join(text(row[name]) for name in ("example_id", "rollout_id") if row.get(name) is not None)
    return calls_of(messages, id, feedback=given, left_out=shots)


def _said(value: Any, role: str) -> list[Any]:
    return [{"role": role, "content": value}] if isinstance(value, str) else list(sequence(value, role))
