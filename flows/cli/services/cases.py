"""`oel cases`: the sets of cases on which a project's rounds are evaluated."""

from flows.cli.shared import RUNS, AsJson, Root, RunName, out, print_json, print_table

COLUMNS = ("round", "held out", "scorable", "new", "validation", "right answers", "verdicts", "digest")


def cases(run: RunName, root: Root = RUNS, as_json: AsJson = False) -> None:
    """Show each round's set of cases: its sessions, and how many of them can be scored."""
    from oel_core.cases.frozen import read_cases
    from oel_core.cases.suite import scorer_of
    from oel_core.cases.summary import summarise_set
    from oel_core.rounds.round import Round
    from oel_core.runs.folder import find_run
    from oel_core.runs.manifest import digest_file
    from oel_core.runs.round_start import read_start

    folder = find_run(root, run)
    config = folder.config()
    scorer = scorer_of(config.evaluate.cases)
    numbers = [number for number in folder.rounds() if (start := read_start(folder, number)) and start.cases]
    paths = {number: Round(config, folder, number).cases() for number in numbers}
    found = [summarise_set(read_cases(path), scorer, number, digest_file(path)) for number, path in paths.items()]
    if as_json:
        print_json([one.model_dump() for one in found])
        return
    if not found:
        out.print("No round has cases: they are set apart where evaluate.held_out is cases", soft_wrap=True)
        return
    names = ("round", "held_out", "scorable", "new", "validation", "answers", "verdicts", "digest")
    print_table("", COLUMNS, [[str(getattr(one, name)) for name in names] for one in found])
