"""A verdict as rows of text."""

from oel_core.gate.verdict_text import CHECKS, COMPARED, check_rows, compared_rows, title
from tests.gate.test_promotion import played, rate, results, verdict


def test_rows_say_what_was_found() -> None:
    found = verdict(
        results(3, played(rate(9, 16)), b=rate(4, 16), a=rate(12, 16)),
        results(0, played(rate(8, 16)), b=rate(8, 16), a=rate(8, 16)),
    )
    assert title(found) == "round 3 against the base model"
    assert title(found.model_copy(update={"champion": 2})) == "round 3 against round 2"
    held_out = found.held_out
    assert compared_rows(found)[0] == [
        "held out",
        "16",
        "50.0%",
        "56.2%",
        "+6.2",
        f"{100 * held_out.low:+.1f} to {100 * held_out.high:+.1f}",
        "1",
        "0",
    ]
    assert [row[:5] for row in compared_rows(found)[1:]] == [
        ["ood a", "16", "50.0%", "75.0%", "+25.0"],
        ["ood b", "16", "50.0%", "25.0%", "-25.0"],
    ]
    assert [row[:3] for row in check_rows(found)] == [
        ["episodes", "refused", "16.0000"],
        ["better", "refused", f"{held_out.probability:.4f}"],
        ["ood/b", "refused", "-0.2500"],
        ["ood/a", "ok", "0.2500"],
        ["response_length", "ok", "1.0000"],
        ["truncation", "ok", "0.0000"],
    ]
    assert {len(row) for row in check_rows(found)} == {len(CHECKS)}
    assert {len(row) for row in compared_rows(found)} == {len(COMPARED)}
