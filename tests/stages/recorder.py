"""Records which settings code reads, by watching the attributes of a configuration's sections."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from oel_core.config.run import OelConfig
from oel_core.config.section import Section
from oel_core.runs.manifest import flatten


class _Options(dict[str, Any]):
    """The options of the suites: which there are decides what is run, one suite's options decide its result."""

    def __init__(self, recorder: "Recorder", place: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._recorder, self._place = recorder, place

    def __getitem__(self, name: str) -> Any:
        self._recorder.note(f"{self._place}.{name}")
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._recorder.note(f"{self._place}.{name}")
        return super().get(name, default)


class Recorder:
    """Dotted paths of the leaf settings of the watched configurations that were read while recording."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: set[str] = set()
        self._on = False
        self._places: dict[int, tuple[str, Section]] = {}  # holds the sections, so that no id is used again
        plain, recorder = Section.__getattribute__, self

        def watched(section: Section, name: str) -> Any:
            value = plain(section, name)
            known = recorder._places.get(id(section))
            if known is None or name not in type(section).model_fields:
                return value
            return recorder._see(known[0], name, value)

        monkeypatch.setattr(Section, "__getattribute__", watched)
        for name in ("model_dump", "model_dump_json"):
            monkeypatch.setattr(Section, name, self._dumping(getattr(Section, name)))
        monkeypatch.setattr(Section, "model_copy", self._copying(Section.model_copy))

    def watch(self, config: OelConfig) -> OelConfig:
        """From now on what is read of this configuration, its sections and copies of them is recorded."""
        self._places[id(config)] = ("", config)
        return config

    @contextmanager
    def recording(self, on: bool = True) -> Iterator[None]:
        before, self._on = self._on, on
        try:
            yield
        finally:
            self._on = before

    def note(self, path: str) -> None:
        if self._on:
            self.read.add(path)

    def _see(self, place: str, name: str, value: Any) -> Any:
        path = f"{place}.{name}".removeprefix(".")
        if isinstance(value, Section):
            self._places.setdefault(id(value), (path, value))
        elif path == "evaluate.ood":
            return _Options(self, path, value)
        else:
            self.note(path)
        return value

    def _dumping(self, plain: Any) -> Any:
        """A section that is written out counts as read, all of it."""

        def dump(section: Section, **options: Any) -> Any:
            known = self._places.get(id(section))
            if known is not None and self._on:
                with self.recording(False):
                    paths = flatten(section.model_dump(mode="json"), f"{known[0]}." if known[0] else "")
                self.read |= paths.keys()
            return plain(section, **options)

        return dump

    def _copying(self, plain: Any) -> Any:
        def copy(section: Section, **options: Any) -> Any:
            made = plain(section, **options)
            known = self._places.get(id(section))
            if known is not None:
                self._places[id(made)] = (known[0], made)
            return made

        return copy
