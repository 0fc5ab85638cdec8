"""What a gate decided, in Markdown: every condition with its figure, and the comparisons they rest on."""

import re

from oel_core.artifacts import RunFolder
from oel_core.promotion import Comparison, Verdict
from oel_core.triggers import Trigger


def gate_key(run: RunFolder, round_index: int) -> str:
    """A key as Prefect wants it: lower-case letters, digits and dashes."""
    return f"{re.sub(r'[^a-z0-9]+', '-', run.name.lower()).strip('-')}-gate-{round_index:02d}"


def gate_markdown(run: RunFolder, verdict: Verdict, detail: str) -> str:
    """The verdict on a round."""
    champion = f"round {verdict.champion}" if verdict.champion else "the base model"
    checks = [
        [check.name, "ok" if check.passed else "**refused**", f"{check.value:.4f}", check.bound]
        for check in verdict.checks
    ]
    compared = [["held out", *_cells(verdict.held_out)]]
    compared += [[f"ood {suite}", *_cells(found)] for suite, found in sorted(verdict.ood.items())]
    return (
        "\n\n".join(
            [
                f"# {run.name}: round {verdict.candidate} against {champion}",
                f"**{'Promote' if verdict.promote else 'Refuse'}**: {detail}",
                table(["condition", "", "value", "has to be"], checks),
                table(["suite", "episodes", "before", "after", "difference", "95% interval", "won", "lost"], compared),
                "Both models played the same seeds; intervals and probability are of a paired bootstrap. "
                "Out of distribution, *before* is the better of champion and base model.",
            ]
        )
        + "\n"
    )


def outcome_line(trigger: Trigger) -> str:
    """What came of a trigger, in one line."""
    which = f"round {trigger.round} {trigger.outcome}" if trigger.round is not None else trigger.outcome
    return f"{which}: {trigger.detail}" if trigger.detail else which


def _cells(found: Comparison) -> list[str]:
    return [
        str(found.episodes),
        f"{100 * found.first:.1f}%",
        f"{100 * found.second:.1f}%",
        f"{100 * found.difference:+.1f}",
        f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
        str(found.won),
        str(found.lost),
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
