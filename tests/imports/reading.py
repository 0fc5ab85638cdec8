"""Imports of the example logs, and what of their episodes the golden files hold."""

import json
from pathlib import Path
from typing import Any

from oel_core.imports.importing import Import, Imported, import_logs
from oel_core.imports.privacy import Privacy
from oel_core.runs.jsonl import read_jsonl
from oel_core.types import Message, Trajectory

DATA = Path(__file__).parent / "data"


def log_of(format: str) -> Path:
    """The example log of a format."""
    (found,) = (path for path in DATA.iterdir() if path.stem == format and not path.name.endswith(".golden.json"))
    return found


def imported(
    format: str, source: Path, inbox: Path, privacy: Privacy = Privacy.KEEP, top_score: float = 1.0
) -> tuple[Imported, list[Trajectory]]:
    """What an import says, and the episodes that it wrote."""
    done = import_logs(Import(format, source, inbox, "shop", privacy, top_score))
    return done, [] if done.file is None else list(read_jsonl(inbox / done.file, Trajectory))


def summary(done: Imported, episodes: list[Trajectory]) -> dict[str, Any]:
    """What a golden file says."""
    return {
        "entries": done.entries,
        "calls": done.calls,
        "ratings": done.ratings,
        "unmatched": done.unmatched,
        "dropped": dict(done.dropped),
        "left_out": done.left_out,
        "episodes": [
            {
                "reward": episode.reward,
                "feedback": episode.feedback,
                "terminated": episode.terminated,
                "turns": [
                    {
                        "prompt": [_said(message) for message in turn.messages],
                        "response": turn.response,
                        "observation": turn.observation,
                        "stop": turn.stop_reason.value,
                        **({"response_ids": list(turn.response_ids)} if turn.response_ids else {}),
                    }
                    for turn in episode.turns
                ],
            }
            for episode in episodes
        ],
    }


def _said(message: Message) -> str:
    extra = json.loads(message.model_dump_json(exclude={"role", "content"}))
    return f"{message.role}: {message.content}" + (f" {json.dumps(extra)}" if extra else "")


if __name__ == "__main__":  # python -m tests.imports.reading FORMAT: what its golden file would be, to be read and kept
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(summary(*imported(sys.argv[1], log_of(sys.argv[1]), Path(folder))), indent=1))
