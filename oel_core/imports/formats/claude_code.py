"""Sessions of Claude Code, one file per session (`~/.claude/projects/<project>/<session>.jsonl`).

The lines form trees by `parentUuid`: an edited message and a rewind start a branch; a compaction and a subagent start a
separate tree. A model's message is split into several lines with the same `message.id`. Tool results are in the user's
lines, which have different parents if calls ran in parallel, so results are matched by call id. The log has neither the
system prompt nor the tools' schemas. An interruption by the user is feedback on the message before it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from oel_core.imports import chat
from oel_core.imports.fields import count, first, mapping, moment, sequence, text
from oel_core.imports.records import Call, Feedback, GroupedLines, Line, Rating
from oel_core.types import Message, StopReason

_INTERRUPTED = "[Request interrupted by user"
_SYNTHETIC = "<synthetic>"
_THOUGHT = ("thinking", "redacted_thinking")


def groups(lines: Sequence[Line]) -> Iterable[Sequence[Line]]:
    """The trees of a file, each with its lines in order; one without a tree is added to that of the previous line."""
    root_of: dict[str, int] = {}
    trees: list[list[Line]] = []
    current = 0
    for line in lines:
        row = line[1] if isinstance(line[1], Mapping) else {}
        uuid, parent = text(row.get("uuid")), text(row.get("parentUuid"))
        if uuid and parent in root_of:
            current = root_of[parent]
        elif uuid or not trees:
            current = len(trees)
            trees.append([])
        if uuid:
            root_of[uuid] = current
        trees[current].append(line)
    return trees


def read(entry: Any) -> Iterator[Call | Rating]:
    """A call for each message of the model in a tree; its prompt is the path from the root."""
    rows = [mapping(each, "") for each in sequence(entry, "")]
    return _Tree(rows).calls()


class _Tree:
    """The lines of a tree, indexed by id, parent and tool call."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = {text(row["uuid"]): row for row in rows if row.get("uuid")}
        self._answers: dict[str, list[Mapping[str, Any]]] = {}
        self._results: dict[str, Mapping[str, Any]] = {}
        for row in self._rows.values():
            if row.get("type") == "assistant" and not _is_error(row):
                self._answers.setdefault(_id(row), []).append(row)
            for part in _parts(row) if row.get("type") == "user" else ():
                if part.get("type") == "tool_result":
                    self._results[text(part.get("tool_use_id"))] = part
        for id, spread in list(self._answers.items()):
            if not any(part.get("type") not in _THOUGHT for one in spread for part in _parts(one)):
                del self._answers[id]  # interrupted while it was thinking

    def calls(self) -> Iterator[Call | Rating]:
        """The model's messages as calls, and interruptions as feedback."""
        for id, rows in self._answers.items():
            yield self._call(id, rows)
        for row in self._rows.values():
            if row.get("type") == "user" and any(_INTERRUPTED in text(part.get("text")) for part in _parts(row)):
                before = [one for one in self._path(row) if _id(one) in self._answers]
                if before:
                    yield Rating(about=(_id(before[-1]),), feedback=Feedback(source="human", label="interrupted"))

    def _call(self, id: str, rows: Sequence[Mapping[str, Any]]) -> Call:
        said = mapping(rows[0].get("message"), "message")
        usage = said.get("usage")
        return Call(
            id=id,
            session=text(rows[0].get("sessionId")),
            at=moment(rows[0].get("timestamp")),
            messages=tuple(self._prompt(rows[0])),
            response=_answer(rows),
            model=text(said.get("model")),
            prompt_tokens=_tokens(usage) if isinstance(usage, Mapping) else 0,
            stop_reason=StopReason.LENGTH if _stop(rows) == "max_tokens" else StopReason.EOS,
        )

    def _path(self, row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The ancestors of a line, root first; it ends at a missing parent or a compaction."""
        path, seen = [], set[str]()
        parent = text(row.get("parentUuid"))
        while parent in self._rows and parent not in seen:
            seen.add(parent)
            path.append(self._rows[parent])
            parent = text(self._rows[parent].get("parentUuid"))
        return path[::-1]

    def _prompt(self, row: Mapping[str, Any]) -> Iterator[Message]:
        done = {_id(row)}
        for one in self._path(row):
            if one.get("type") == "user":
                spoken = [part for part in _parts(one) if part.get("type") != "tool_result"]
                if spoken:
                    yield chat.message({"role": "user", "content": spoken}, "message")
            elif _id(one) in self._answers and _id(one) not in done:
                done.add(_id(one))
                answer = _answer(self._answers[_id(one)])
                yield answer
                yield from (self._result(call.id) for call in answer.tool_calls if call.id in self._results)

    def _result(self, call: str) -> Message:
        part = self._results[call]
        said = {"role": "tool", "tool_call_id": call, "content": part.get("content")}
        return chat.message(said, "message.content.tool_result")


def _id(row: Mapping[str, Any]) -> str:
    """The message's id for lines of a model's message, else the line's."""
    message = row.get("message")
    known = first(message, "id") if isinstance(message, Mapping) and row.get("type") == "assistant" else None
    return text(known or row.get("uuid"))


def _is_error(row: Mapping[str, Any]) -> bool:
    message = row.get("message")
    return row.get("isApiErrorMessage") is True or (isinstance(message, Mapping) and message.get("model") == _SYNTHETIC)


def _parts(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = mapping(row.get("message"), "message").get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [mapping(part, "message.content") for part in sequence(content, "message.content")]


def _answer(rows: Sequence[Mapping[str, Any]]) -> Message:
    """The text and the tool calls of all lines of a message, without thinking."""
    parts = [part for row in rows for part in _parts(row)]
    calls = [
        {"id": part.get("id"), "name": part.get("name"), "arguments": part.get("input")}
        for part in parts
        if part.get("type") == "tool_use"
    ]
    spoken = [part for part in parts if part.get("type") not in ("tool_use", *_THOUGHT)]
    return chat.message({"role": "assistant", "content": spoken, "tool_calls": calls}, "message")


def _stop(rows: Sequence[Mapping[str, Any]]) -> Any:
    return next(
        (reason for row in rows[::-1] if (reason := mapping(row["message"], "message").get("stop_reason"))), None
    )


def _tokens(usage: Mapping[str, Any]) -> int:
    kinds = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(count(usage.get(kind)) for kind in kinds)


FORMAT = GroupedLines(groups, read)
