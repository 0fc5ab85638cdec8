"""Every log format: golden files, and no input ends in a traceback."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oel_core.imports.importing import ALREADY_IMPORTED
from oel_core.plugins.builtin import LOG_FORMATS
from oel_core.projects.inbox import new_experience
from oel_core.projects.quarantine import REFUSED, LeftOut
from oel_core.runs.jsonl import read_jsonl
from tests.fuzzing import examples
from tests.imports.reading import DATA, imported, log_of, summary
from tests.mutated import lines_like

FORMATS = list(LOG_FORMATS.builtin)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("format", FORMATS)
def test_the_example_log_gives_what_the_golden_file_says(format: str, tmp_path: Path) -> None:
    found = summary(*imported(format, log_of(format), tmp_path))
    assert found == json.loads((DATA / f"{format}.golden.json").read_text())


@pytest.mark.parametrize("format", FORMATS)
def test_a_round_takes_every_episode_of_the_example_log(format: str, tmp_path: Path) -> None:
    _, episodes = imported(format, log_of(format), tmp_path)
    found = new_experience(tmp_path, {}, "shop")
    assert found.left_out == []
    assert [one.episode for one in found.received] == episodes
    assert len({episode.id for episode in episodes}) == len(episodes)


def _entries(format: str) -> list[bytes]:
    """Lines of the example log, or the elements of its document, that are JSON."""
    path = log_of(format)
    whole = path.read_bytes()
    if path.suffix == ".json":
        document = json.loads(whole)
        return [json.dumps(each).encode() for each in (document if isinstance(document, list) else [document])]
    return [line for line in whole.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_line_holds_it_is_used_or_refused_with_a_reason(format: str, data: st.DataObject) -> None:
    lines = data.draw(st.lists(lines_like(_entries(format)), max_size=6))
    with TemporaryDirectory() as folder:
        log, inbox = Path(folder) / "log.jsonl", Path(folder) / "inbox"
        log.write_bytes(b"".join(line + b"\n" for line in lines))
        done, episodes = imported(format, log, inbox)
        assert done.calls == done.turns + sum(done.dropped.values())
        assert len(new_experience(inbox, {}, "shop").received) == done.episodes == len(episodes)
        refused = inbox / REFUSED / f"{format}-log.jsonl"
        kept = list(read_jsonl(refused, LeftOut)) if refused.exists() else []
        assert len(kept) == sum(done.left_out.values())
        assert all(one.reason and lines[one.line - 1].strip() for one in kept)
        assert done.entries == sum(bool(line.strip()) for line in lines) - (lines[:1] == [BYTE_ORDER_MARK])


@pytest.mark.parametrize("format", FORMATS)
def test_an_import_of_the_example_log_again_adds_nothing(format: str, tmp_path: Path) -> None:
    first, episodes = imported(format, log_of(format), tmp_path)
    again, none = imported(format, log_of(format), tmp_path)
    assert (again.file, none) == (None, [])
    assert again.dropped[ALREADY_IMPORTED] == first.turns == sum(len(episode.turns) for episode in episodes)
