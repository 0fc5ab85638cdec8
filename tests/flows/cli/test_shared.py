"""Output that several commands share."""

import pytest

from flows.cli.shared import print_table


def test_what_people_write_is_shown_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    print_table("of [/b]", ("why",), [("better [/on] lake [red]now",)])
    shown = capfd.readouterr().out
    assert "better [/on] lake [red]now" in shown
    assert "of [/b]" in shown
