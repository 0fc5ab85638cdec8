"""LangSmith runs, one per entry, and separate rows of feedback (https://docs.langchain.com/langsmith).

Runs of type `llm` are calls. Messages are LangChain's, serialised (`{lc, id, kwargs}`, in lists of lists) or as dicts
(`{type, data}`), or OpenAI's. `session_id` is the project; conversations are identified by `thread_id` and similar keys
of the metadata. Aggregates (`feedback_stats`) are not read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from oel_core.imports import chat
from oel_core.imports.feedback import source
from oel_core.imports.fields import count, first, mapping, moment, number, sequence, text
from oel_core.imports.records import Call, Feedback, Rating
from oel_core.runs.jsonl import LineError
from oel_core.types import Message

_THREAD = ("thread_id", "session_id", "conversation_id")
_ROLES = {
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
}


def read(entry: Any) -> Iterator[Call | Rating]:
    """The call of an `llm` run, or a row of feedback."""
    row = mapping(entry, "")
    if "run_type" not in row and "key" in row:
        yield _rating(row)
        return
    if row.get("run_type") != "llm":
        raise LineError("run_type", "it is no run of a model: only those of type llm hold what it read and answered")
    if row.get("error"):
        raise LineError("error", "the run failed: there is no answer to learn from")
    extra = mapping(row.get("extra") or {}, "extra")
    notes = mapping(extra.get("metadata") or {}, "extra.metadata")
    settings = mapping(extra.get("invocation_params") or {}, "extra.invocation_params")
    inputs = mapping(row.get("inputs") or {}, "inputs")
    outputs = mapping(row.get("outputs") or {}, "outputs")
    yield Call(
        id=text(row.get("id")),
        trace=text(row.get("trace_id")),
        session=text(first(notes, *_THREAD)),
        user=text(first(notes, "user_id", "user")),
        at=moment(row.get("start_time")),
        messages=chat.prompt(_messages(inputs), first(settings, "tools") or first(inputs, "tools"), "inputs.messages"),
        response=_answer(outputs),
        model=text(first(notes, "ls_model_name") or first(settings, "model", "model_name")),
        prompt_tokens=count(row.get("prompt_tokens")),
    )


def _messages(inputs: Mapping[str, Any]) -> list[Any]:
    said = sequence(inputs.get("messages"), "inputs.messages")
    if len(said) == 1 and isinstance(said[0], list):
        said = said[0]
    if said:
        return [_message(each, f"inputs.messages.{place}") for place, each in enumerate(said)]
    prompts = sequence(first(inputs, "prompts"), "inputs.prompts") or [inputs.get("prompt")]
    if len(prompts) != 1 or not isinstance(prompts[0], str):
        raise LineError("inputs.messages", "it has no messages")
    return [{"role": "user", "content": prompts[0]}]


def _answer(outputs: Mapping[str, Any]) -> Message:
    """The first generation or choice, or the last message."""
    generations = sequence(outputs.get("generations"), "outputs.generations")
    if generations and isinstance(generations[0], list):
        generations = generations[0]
    choices, said = (sequence(outputs.get(name), f"outputs.{name}") for name in ("choices", "messages"))
    if generations:
        first_of = mapping(generations[0], "outputs.generations.0")
        value = first_of.get("message") or {"role": "assistant", "content": first_of.get("text")}
    elif choices:
        value = mapping(choices[0], "outputs.choices.0").get("message")
    else:
        value = said[-1] if said else outputs.get("message") or outputs
    return chat.message({"role": "assistant"} | _message(value, "outputs"), "outputs")


def _message(value: Any, field: str) -> dict[str, Any]:
    """A message in any of LangChain's formats, converted to OpenAI's."""
    said = mapping(value, field)
    fields, role = said, said.get("role")
    if "kwargs" in said:
        fields = mapping(said["kwargs"], f"{field}.kwargs")
        kind = text((sequence(said.get("id"), f"{field}.id") or ("",))[-1]).removesuffix("Chunk")
        role = _ROLES.get(kind) or fields.get("role") or kind
    elif "data" in said:
        fields = mapping(said["data"], f"{field}.data")
        role = fields.get("role") or said.get("type")
    elif role is None:
        role = said.get("type")
    more = fields.get("additional_kwargs")
    calls = first(fields, "tool_calls") or (first(more, "tool_calls") if isinstance(more, Mapping) else None)
    content = fields.get("content")
    if isinstance(content, list):  # Anthropic's content repeats the calls
        content = [part for part in content if not (isinstance(part, Mapping) and part.get("type") in _NOT_SAID)]
    return {"role": role, "content": content, "tool_calls": calls} | {
        name: fields[name] for name in ("tool_call_id", "name") if fields.get(name)
    }


_NOT_SAID = ("tool_use", "thinking", "reasoning")


def _rating(row: Mapping[str, Any]) -> Rating:
    about = tuple(text(row[name]) for name in ("run_id", "trace_id") if row.get(name))
    if not about:
        raise LineError("run_id", "it is missing: feedback names the run that it is about")
    value = row.get("value")
    correction = row.get("correction")
    who = mapping(row.get("feedback_source") or {}, "feedback_source").get("type")
    score = row.get("score")
    return Rating(
        about=about,
        feedback=Feedback(
            source=source({"api": "human", "app": "human", "auto_eval": "judge"}.get(text(who), who), "code"),  # type: ignore[arg-type]
            name=text(row.get("key")),
            score=None if isinstance(score, bool) else number(score),
            thumbs=score if isinstance(score, bool) else None,
            label=text(value) if not isinstance(value, (int, float)) else "",
            comment=text(row.get("comment")),
            correction=text(correction) if correction else "",
        ),
    )
