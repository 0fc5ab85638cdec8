"""`oel promote`, `oel rollback`, `oel history`: changes and lists the champions of a project."""

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.shared import RUNS, AsJson, Root, RunName, out, print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from oel_core.gate.promotion import Verdict
    from oel_core.gate.sessions import Deployed
    from oel_core.runs.folder import RunFolder
    from tasks.tracking.registry import Move, Registry, Version

Reason = Annotated[str, typer.Option(help="Reason; stored in the history.")]


def promote(
    run: RunName,
    round_index: Annotated[
        int | None, typer.Option("--round", min=1, help="Round whose model is promoted; the newest if not given.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote although the gate refuses; give the reason with --reason.")
    ] = False,
    reason: Reason = "",
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Compare a round's model with the current champion, and promote it if it passes the gate."""
    from oel_core.errors import ConfigError

    folder, registry = _open(root, run)
    versions = registry.versions()
    if not versions:
        raise ConfigError(f"{folder.name} has no registered model yet: no round of it has been finished")
    version = versions[-1] if round_index is None else registry.version_of_round(round_index)
    champion = registry.champion()
    if champion is not None and champion.version == version.version:
        if as_json:
            print_json([{"refused": ["it is the champion already"], "champion": version.version}])
            return
        _say(f"round {version.round} (version {version.version}) is the champion already")
        return
    if force and not reason:
        raise ConfigError("--force needs --reason: the history must say why the gate was overruled")
    verdict = None if force else _judge(folder, registry, version, champion)
    if verdict is not None:
        _show_verdict(verdict, as_json)
        if not verdict.promote:
            raise typer.Exit(1)
    move = registry.promote(
        version,
        id=f"by-hand-{time.time_ns()}",
        reason=reason or "gate, by hand",
        expected=champion.version if champion else None,
    )
    _report(registry, move, as_json)


def _judge(folder: "RunFolder", registry: "Registry", version: "Version", champion: "Version | None") -> "Verdict":
    """The verdict by now, which the registry keeps too."""
    from oel_core.gate.sessions import with_deployment
    from oel_core.rounds.round import Round
    from oel_core.stages.gate import verdict_against

    config = folder.config()
    candidate, beaten = Round(config, folder, version.round), champion.round if champion else 0
    plays = config.gate.test == "sequential"
    with folder.leased("oel promote") if plays else nullcontext():
        verdict = with_deployment(candidate, beaten, verdict_against(candidate, beaten))
    registry.tag_verdict(version, verdict)
    return verdict


def _show_verdict(verdict: "Verdict", as_json: bool) -> None:
    from oel_core.gate.trial_text import trial_text
    from oel_core.gate.verdict_text import CHECKS, check_rows

    if as_json:
        print_json([{"promote": verdict.promote, "refused": list(verdict.refusals)} | verdict.model_dump(mode="json")])
        return
    print_table("", CHECKS, check_rows(verdict))
    if verdict.trial is not None:
        _say(trial_text(verdict))
    if not verdict.promote:
        _say(f"Refused: {', '.join(verdict.refusals)}. Overrule it with --force --reason '...'")


def rollback(run: RunName, reason: Reason = "", root: Root = RUNS, as_json: AsJson = False) -> None:
    """Make the previous champion the champion again; before the first one that is the preset's model."""
    folder, registry = _open(root, run)
    move = registry.rollback(reason=reason or "by hand")
    _report(registry, move, as_json)
    from tasks.events import emit_rollback

    emit_rollback(folder, move)


def history(run: RunName, root: Root = RUNS, as_json: AsJson = False) -> None:
    """Show every change of the champion, the verdict on every version, and the trials of the error budget."""
    folder, registry = _open(root, run)
    versions, moves = registry.versions(), registry.history()
    if as_json:
        rows_of_all = (_version_rows(folder, versions), _move_rows(moves, versions), _trial_rows(folder))
        deployed = [{"kind": "deployment"} | one.model_dump(mode="json") for one in _deployed(folder)]
        print_json([*(row for rows in rows_of_all for row in rows), *deployed])
        return
    rows = [
        (
            one.version,
            str(one.round),
            one.tags.get("oel.gate", "no verdict"),
            one.tags.get("oel.gate.difference", "-"),
            one.tags.get("oel.gate.probability", "-"),
            " ".join(one.aliases) or "-",
        )
        for one in versions
    ]
    print_table("", ("version", "round", "gate", "difference", "probability", "aliases"), rows)
    rounds = {one.version: one.round for one in versions}
    changes = [
        (
            str(move.number),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(move.at)),
            move.action,
            _name(move.replaced, rounds),
            _name(move.champion, rounds),
            move.by,
            move.reason,
        )
        for move in moves
    ]
    print_table("", ("move", "when", "what", "from", "to", "by", "why"), changes)
    _show_trials(folder)
    _show_deployed(folder)


def _deployed(folder: "RunFolder") -> "list[Deployed]":
    from pathlib import Path

    from oel_core.gate.sessions import by_version

    inbox = folder.config().experience.inbox
    return by_version(Path(inbox)) if inbox is not None and Path(inbox).is_dir() else []


def _show_deployed(folder: "RunFolder") -> None:
    """What `oel serve` has recorded of each version, if anything."""
    rows = [
        (
            one.version,
            str(one.sessions),
            str(one.rated),
            "-" if one.reward is None else f"{one.reward:.3f}",
            str(one.shadow_answers),
            one.withdrawn or "-",
        )
        for one in _deployed(folder)
    ]
    if rows:
        print_table("", ("deployed", "sessions", "rated", "mean reward", "shadow answers", "withdrawn"), rows)


def _show_trials(folder: "RunFolder") -> None:
    """The error budget of a project whose candidates are tested by trials."""
    from oel_core.gate.ledger import read_ledger
    from oel_core.gate.trial_text import TRIALS, budget_text, trial_rows

    ledger = read_ledger(folder)
    if ledger.trials:
        print_table("", TRIALS, trial_rows(ledger))
        _say(budget_text(ledger, folder.config().gate.sequential.error_budget))


def _version_rows(folder: "RunFolder", versions: "list[Version]") -> "list[dict[str, Any]]":
    """A row for each round, the base model first, with its newest version in the registry, if any."""
    from oel_core.runs.round_start import last_begun

    known = {one.round: one for one in versions}
    rows = []
    for index in range(max([last_begun(folder), *known]) + 1):
        one = known.get(index)
        values: dict[str, Any] = {"version": None, "aliases": [], "digest": None, "source": None, "gate": None}
        if one is not None:
            values = one.model_dump(mode="json", exclude={"round", "tags"}) | {"gate": one.tags.get("oel.gate")}
        rows.append({"kind": "round", "round": index} | values)
    return rows


def _move_rows(moves: "list[Move]", versions: "list[Version]") -> "list[dict[str, Any]]":
    """A row for each change of the champion; versions are numbers of the model registry, None is the preset's model."""
    rounds = {one.version: one.round for one in versions}
    return [
        {"kind": "move", "champion_round": rounds.get(move.champion or "", 0)} | move.model_dump(mode="json")
        for move in moves
    ]


def _trial_rows(folder: "RunFolder") -> "list[dict[str, Any]]":
    """A row for each trial of the gate's error budget; evidence as its natural logarithm."""
    from oel_core.gate.ledger import read_ledger

    return [{"kind": "trial"} | trial.model_dump(mode="json") for trial in read_ledger(folder).trials]


def _open(root: "Path", run: str) -> "tuple[RunFolder, Registry]":
    from flows.services.client import use_running_services, use_tracking
    from oel_core.runs.folder import find_run

    folder = find_run(root, run)
    use_running_services(folder.path.parent)
    use_tracking(folder.path.parent)
    from tasks.tracking.registry import registry_of
    from tasks.tracking.settings import load_settings

    return folder, registry_of(load_settings(), folder)


def _report(registry: "Registry", move: "Move", as_json: bool) -> None:
    if as_json:
        print_json(_move_rows([move], registry.versions()))
        return
    rounds = {one.version: one.round for one in registry.versions()}
    _say(f"{move.action}: {_name(move.replaced, rounds)} -> {_name(move.champion, rounds)}")
    _say(f"champion of {registry.model}: {_name(move.champion, rounds)}; previous: {_name(move.previous, rounds)}")


def _name(version: str | None, rounds: dict[str, int]) -> str:
    return "the preset's model" if version is None else f"version {version} (round {rounds.get(version, '?')})"


def _say(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
