"""Run folders as stages leave them, without running anything."""

from pathlib import Path

from oel_core.config.run import load_config
from oel_core.runs.folder import RunFolder, adopt_config, open_run, stage_key

WEIGHTS = b"w" * 4096


def finished_run(root: Path, name: str, rounds: int = 3) -> RunFolder:
    """A run of the preset `tiny` with this many finished rounds: their weights and their measurement."""
    run, config = open_run(root, name), load_config("tiny", [f"rounds={rounds}"])
    adopt_config(run, config)
    for index in range(rounds + 1):
        if index:
            run.perform(stage_key(config, index, "distill", ["seed"], {}), _weights)
        run.perform(stage_key(config, index, "evaluate/held_out", ["seed"], {}), _report)
    return run


def begin_stage(run: RunFolder, index: int, stage: str) -> Path:
    """A stage that a kill interrupted."""
    folder = run.stage_path(index, stage)
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True)
    key = stage_key(run.config(), index, stage, ["seed"], {})
    (partial / "started.json").write_text(key.model_dump_json())
    (partial / "episodes.jsonl").write_text("half")
    return partial


def _weights(folder: Path) -> dict[str, float]:
    (folder / "checkpoint").mkdir(exist_ok=True)
    (folder / "checkpoint" / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "checkpoint" / "config.json").write_text("{}")
    return {}


def _report(folder: Path) -> dict[str, float]:
    (folder / "notes.json").write_text("{}")
    return {}
