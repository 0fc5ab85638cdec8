"""Step-wise injection: the lines selected for a step."""

from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.knowledge import InjectionConfig
from oel_core.prompts.injection import inject, relevant
from oel_core.prompts.play import first_messages, with_knowledge

KNOWLEDGE = "\n".join(
    [
        "- EXPERIENCE ITEM: 'K' is a key: pick it up first.",
        "- EXPERIENCE ITEM: 'H' ends the game in failure: never step on it.",
        "- EXPERIENCE ITEM: 'G' is the goal: reach it to win.",
    ]
)


def test_a_step_is_given_the_lines_about_what_it_sees() -> None:
    assert relevant(KNOWLEDGE, "| P | H |", 3) == KNOWLEDGE.splitlines()[1]
    assert relevant(KNOWLEDGE, "| K | P | G |", 3).splitlines() == [KNOWLEDGE.splitlines()[n] for n in (0, 2)]


def test_single_letters_keep_their_case_and_words_do_not() -> None:
    assert relevant("'A' is deadly\na door opens", "| A |", 5) == "'A' is deadly"
    assert relevant("doors open\nkeys lie about", "DOORS", 5) == "doors open"


def test_signs_of_a_board_count_and_punctuation_does_not() -> None:
    assert relevant("'#' is a wall.\n'$' is a box, push it!", "##@ $.", 1) == "'$' is a box, push it!"
    assert relevant("walk, then push\nwait for '$'", "#, @, $", 5) == "wait for '$'"


def test_rare_words_go_before_frequent_ones_and_newer_lines_before_older() -> None:
    lines = ["take the lamp", "take the coin", "take the rope"]
    assert relevant("\n".join(lines), "take the coin", 1) == "take the coin"
    assert relevant("red door\nred lamp\nblue rope", "red", 1) == "red lamp"


def test_where_nothing_fits_the_newest_lines_are_shown() -> None:
    assert relevant("one\ntwo\nthree", "nothing of it", 2) == "two\nthree"
    assert relevant("the only line", "something else", 3) == "the only line"
    assert relevant("", "anything", 3) == ""


@given(st.lists(st.text("abcAB '", max_size=12), max_size=8), st.text("abcAB ", max_size=12), st.integers(1, 5))
def test_what_is_shown_are_lines_of_the_knowledge_in_its_order(lines: list[str], situation: str, most: int) -> None:
    own = [line for line in lines if line.strip()]
    shown = relevant("\n".join(lines), situation, most).splitlines()
    assert len(shown) == min(len(shown), most)
    assert bool(shown) == bool(own)
    position = iter(own)
    assert all(line in position for line in shown)


def test_only_the_situation_at_hand_decides() -> None:
    first = first_messages("You walk. K and G exist.", "| P | H |")
    step_wise = InjectionConfig(mode="step_wise", items=1)
    assert inject(first, KNOWLEDGE, step_wise) == with_knowledge(first, KNOWLEDGE.splitlines()[1])
    assert inject(first, KNOWLEDGE, InjectionConfig()) == with_knowledge(first, KNOWLEDGE)
    assert inject(first, "", step_wise) == first
