"""`oel init`: creates a new project's folder."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import complete
from flows.cli.shared import RUNS, AsJson, Root, out, print_json

INBOX = "inbox"
HEAD = """\
# Configuration of the project {project}, from the preset {preset}. Every field: oel config show {preset}
# A trigger takes it over once it is named, and the project keeps it:
#   oel trigger next-round --set project={project} --set preset_file={path}
# After a change here name it again. One field alone: --set distill.steps=20
#
# Episodes of a deployed agent, one JSON object a line, go into {inbox}
"""
PLAYED = """\
# To learn from them instead of from episodes that a round plays itself, take the # off these three lines:
# experience:
#   inbox: {inbox}
#   min_episodes: 50
"""
_EXPERIENCE = re.compile(r"^experience:[ \t]*(\{)?", re.MULTILINE)


def init(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Name of the project, a folder under --root.")],
    preset: Annotated[
        str, typer.Option(help="Initial preset of the project.", autocompletion=complete.presets)
    ] = "quickstart",
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Create a project's folder with an inbox and a commented configuration."""
    path = make_project(root, project, preset)
    if as_json:
        print_json([{"project": project, "inbox": str(path.parent / INBOX), "preset": str(path)}])
        return
    for label, what in (
        ("Project", path.parent),
        ("Inbox", path.parent / INBOX),
        ("Preset", path),
        ("Next", f"oel trigger next-round --set project={project} --set preset_file={path}"),
    ):
        out.print(f"{label:<8} {what}", soft_wrap=True)


def make_project(root: Path, project: str, preset: str) -> Path:
    """Creates the folder and returns the path of its configuration.

    Raises:
        ConfigError: no such preset, an invalid name, or an existing project.
    """
    from oel_core.config.run import load_config
    from oel_core.envs import playable
    from oel_core.errors import ConfigError
    from oel_core.housekeeping.listing import PRESET
    from oel_core.runs.files import write_atomic
    from oel_core.runs.folder import open_run, require_run_name

    require_run_name(project)
    config = load_config(preset)
    if (root / project).exists():
        raise ConfigError(f"{root / project} is there already: choose another name, or edit what is in it")
    folder = open_run(root, project).path.resolve()
    (folder / INBOX).mkdir()
    path = folder / PRESET
    head = HEAD.format(project=project, preset=preset, path=path, inbox=folder / INBOX)
    if playable(config.environment.name):
        text = PLAYED.format(inbox=folder / INBOX) + _text(preset)
    else:
        text = _with_inbox(_text(preset), folder / INBOX)
    write_atomic(path, (head + text).encode())
    return path


def _with_inbox(text: str, inbox: Path) -> str:
    """A preset that reads this inbox: nothing can be played, so there is no other source of experience."""
    line = f"inbox: {json.dumps(str(inbox), ensure_ascii=False)}"
    found = _EXPERIENCE.search(text)
    if found is None:
        return f"{text.rstrip()}\nexperience: {{{line}}}\n"
    begin, end = text[: found.end()], text[found.end() :]
    return f"{begin}{line}, {end}" if found[1] else f"{begin}\n  {line}{end}"


def _text(preset: str) -> str:
    """A preset's YAML with its comments."""
    own = resources.files("oel_core.config") / "presets" / f"{preset}.yaml"
    return own.read_text(encoding="utf-8") if own.is_file() else Path(preset).read_text(encoding="utf-8")
