"""What the training side refuses: everything that is not exactly a bundle, and recorded episodes above all."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_core.bundles.archive import write_archive
from oel_core.bundles.making import make_bundle
from oel_core.bundles.reading import Bundle
from oel_core.bundles.recorded import recorded_fields, recorded_text
from oel_core.errors import ArtifactError, OelError
from oel_core.prompts.extraction.base import transcript
from tests.builders import episode
from tests.bundles.rounds import played

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Files:
    """The files of a good bundle."""
    from oel_core import envs
    from tests.fakes import CORRIDOR

    root = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(envs.REGISTRY, *CORRIDOR)
        path = make_bundle(played(root, model), root / "a.zip").path
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: Files, change: Callable[[Files], None], *, redigest: bool = True) -> Path:
    """A bundle with changed files, whose manifest has their digests where `redigest`."""
    changed = dict(files)
    change(changed)
    if redigest and "manifest.json" in changed:
        manifest = json.loads(changed["manifest.json"])
        manifest["files"] = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in changed.items()
            if name != "manifest.json"
        }
        changed["manifest.json"] = json.dumps(manifest).encode()
    path.unlink(missing_ok=True)
    write_archive(path, changed)
    return path


def read_all(path: Path) -> None:
    bundle = Bundle.open(path)
    bundle.knowledge()
    list(bundle.prompts())


def in_json(name: str, edit: Callable[[Any], None]) -> Callable[[Files], None]:
    """Edits one JSON file."""

    def change(files: Files) -> None:
        value = json.loads(files[name])
        edit(value)
        files[name] = json.dumps(value).encode()

    return change


def in_line(number: int, edit: Callable[[Any], Any]) -> Callable[[Files], None]:
    """Edits one line of the prompts."""

    def change(files: Files) -> None:
        lines = files["prompts.jsonl"].splitlines()
        value = json.loads(lines[number])
        lines[number] = json.dumps(edit(value) or value).encode()
        files["prompts.jsonl"] = b"".join(line + b"\n" for line in lines)

    return change


def knowledge_text(text: str) -> Callable[[Files], None]:
    """Replaces the only item of the first file, where both of its files say so."""

    def change(files: Files) -> None:
        record = json.loads(files["knowledge_00.json"])
        record["items"] = [record["items"][0] | {"text": text}, *record["items"][1:]]
        files["knowledge_00.json"] = json.dumps(record).encode()
        files["knowledge_00.md"] = "\n".join(item["text"] for item in record["items"]).encode()

    return change


RECORD = json.loads(episode("e0").model_dump_json())
PLAIN = transcript(episode("e0"), None)


def test_the_unchanged_bundle_is_read(tmp_path: Path, files: Files) -> None:
    read_all(packed(tmp_path / "a.zip", files, lambda files: None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.update({"trajectories.jsonl": b"{}\n"}), "'trajectories.jsonl', which is no part"),
        (lambda files: files.update({"../x.md": b""}), "no part of a bundle"),
        (lambda files: files.pop("manifest.json"), "it is no bundle"),
        (lambda files: files.pop("knowledge_01.md"), r"has no knowledge_01\.md"),
        (lambda files: files.update({"knowledge_00.md": b"else"}), "do not make up"),
        (lambda files: files.pop("prompts.jsonl"), "does not fit"),
        (in_json("manifest.json", lambda value: value.update(env="lake")), "env: Extra inputs"),
        (in_json("manifest.json", lambda value: value.update(RECORD)), "record of an episode"),
        (in_json("manifest.json", lambda value: value.update(schema_version=2)), "schema_version"),
        (in_json("manifest.json", lambda value: value.update(items=99)), "another number of items"),
        (in_json("manifest.json", lambda value: value.update(prompts=1)), "other numbers of prompts"),
        (in_json("knowledge_00.json", lambda value: value["items"][0].update(format="raw")), "raw episode"),
        (in_json("knowledge_00.json", lambda value: value["items"][0].update(model="gpt")), r"items\.0\.model"),
        (in_json("knowledge_00.json", lambda value: value["items"][0].update(sources=["r01-e0"])), "sources"),
        (knowledge_text(json.dumps(RECORD)), r"knowledge_00\.md: it holds the record of an episode"),
        (knowledge_text(PLAIN), r"knowledge_00\.md: it holds the transcript of an episode"),
        (in_line(0, lambda value: RECORD), r"prompts\.jsonl, line 1: it holds the record of an episode"),
        (in_line(1, lambda value: RECORD["turns"][0]), r"line 2: it holds the record of an episode"),
        (in_line(0, lambda value: value | {"response": "no"}), "line 1: response: Extra inputs"),
        (in_line(0, lambda value: value | {"env": "lake"}), "line 1: env: Extra inputs"),
        (in_line(0, lambda value: value | {"episode": 3}), "line 1: episode: it is out of order"),
        (in_line(1, lambda value: value | {"episode": 0, "turn": 0}), "line 2: episode: it is out of order"),
        (
            in_line(0, lambda value: value | {"messages": [*value["messages"], {"role": "assistant", "content": "x"}]}),
            "line 1: messages: the last message is the assistant's",
        ),
        (
            in_line(0, lambda value: value | {"messages": [{"role": "user", "content": json.dumps(RECORD)}]}),
            r"line 1: messages\.0\.content: it holds the record",
        ),
        (lambda files: files.update({"prompts.jsonl": b"nonsense\n"}), "line 1: it is not JSON"),
        (lambda files: files.update({"prompts.jsonl": files["prompts.jsonl"][:-1]}), "has no end"),
    ],
)
def test_what_is_no_bundle_is_refused_with_place_and_reason(
    tmp_path: Path, files: Files, change: Callable[[Files], None], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_all(packed(tmp_path / "a.zip", files, change))


def test_a_changed_file_is_noticed_by_its_digest(tmp_path: Path, files: Files) -> None:
    path = packed(tmp_path / "a.zip", files, lambda files: files.update({"README.txt": b"Trust me."}), redigest=False)
    with pytest.raises(ArtifactError, match=r"README\.txt was changed after the bundle was made"):
        Bundle.open(path)


def test_files_that_cannot_be_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and nothing more")
    for name, message in (("a.zip", "no whole zip archive"), ("absent.zip", "cannot be read"), (".", "cannot be read")):
        with pytest.raises(ArtifactError, match=message):
            Bundle.open(tmp_path / name)


def test_twice_the_same_name_and_a_bomb_are_refused(tmp_path: Path, files: Files) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("manifest.json", files["manifest.json"])
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("manifest.json", files["manifest.json"])
    with pytest.raises(ArtifactError, match="twice, encrypted, or larger"):
        Bundle.open(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", b"0" * 2**21)
    with pytest.raises(ArtifactError, match="larger than 1048576 bytes"):
        Bundle.open(tmp_path / "b.zip")


@given(data=st.data())
def test_any_damage_is_an_error_of_ours_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, files: Files, data: st.DataObject
) -> None:
    path = packed(tmp_path_factory.mktemp("damaged") / "a.zip", files, lambda files: None)
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    try:
        bundle = Bundle.open(path)
        found = [entry.model_dump() for entry in bundle.knowledge()], [one.model_dump() for one in bundle.prompts()]
    except OelError:
        return
    good = Bundle.open(packed(path.with_name("good.zip"), files, lambda files: None))
    assert found == ([entry.model_dump() for entry in good.knowledge()], [one.model_dump() for one in good.prompts()])


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_record_is_found_wherever_it_is_and_anything_else_is_not(value: Any) -> None:
    assert recorded_fields(value) == []
    assert recorded_fields([value, {"deep": [RECORD]}]) != []
    assert recorded_text(json.dumps({"x": RECORD})) is not None


@pytest.mark.parametrize(
    "text",
    [
        '{"env": "prod", "policy": "retry"}',
        "## Turn 1\nIt is your turn.",
        "Answer: always with a date.",
        "- EXPERIENCE ITEM: the reward of a turn is the response",
        "{not json",
    ],
)
def test_words_that_a_record_has_too_are_no_record(text: str) -> None:
    assert recorded_text(text) is None
