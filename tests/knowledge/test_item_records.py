"""The record of an item: evidence supports it, contradicts it, retires it within two rounds, and brings it back."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from oel_core.knowledge.item_records import FORGOTTEN, ItemRecord, State, adopt, collect, revise
from oel_core.knowledge.served import serve
from oel_core.knowledge.store import empty
from oel_core.prompts.extraction.itemised import MARKER
from oel_core.types import ExperienceItem, Knowledge
from tests.builders import item

OLD, NEW, OTHER = (f"{MARKER} {text}" for text in ("'H' is a hole.", "'H' is the goal.", "'K' is a key."))


def of(*found: tuple[str, int], round_index: int = 1) -> dict:
    """Each text found in so many episodes of a round, no two of them in the same one."""
    names = iter(f"r{round_index}-e{number}" for number in range(1000))
    return dict(collect((item(text), [next(names) for _ in range(count)]) for text, count in found))


def after(*rounds: Sequence[tuple[str, int]]) -> dict[str, ItemRecord]:
    records: list[ItemRecord] = []
    for number, found in enumerate(rounds, start=1):
        records = revise(records, of(*found, round_index=number), number)
    return {record.item.text: record for record in records}


def served(records: dict[str, ItemRecord], *items: ExperienceItem, cap: int = 1000) -> Knowledge:
    return serve(empty(0, 1), items, list(records.values()), cap, lambda text: len(text.split()))


def test_an_item_is_a_candidate_until_a_second_episode_shows_it() -> None:
    assert after([(OLD, 1)])[OLD].state is State.CANDIDATE
    record = after([(OLD, 1)], [(OLD, 1)])[OLD]
    assert (record.state, record.support, record.since, record.last) == (State.SUPPORTED, 2, 1, 2)


def test_a_reversed_rule_is_disputed_at_once_and_retired_in_the_round_after() -> None:
    before = [[(OLD, 12), (OTHER, 5)]] * 11
    assert after(*before)[OLD].state is State.SUPPORTED
    first = after(*before, [(NEW, 5), (OTHER, 5)])
    assert first[OLD].state is State.DISPUTED
    assert served(first, item(OLD), item(NEW)).text == f"{OLD}\n{NEW}"
    second = after(*before, [(NEW, 5)], [(NEW, 5)])
    assert second[OLD].state is State.RETIRED
    assert (second[OLD].support, second[OLD].contradictions) == (132, 10)
    assert second[NEW].state is State.SUPPORTED
    assert second[OTHER].state is State.SUPPORTED  # nothing was said against it


def test_a_rule_that_is_reversed_back_returns() -> None:
    records = after(*[[(OLD, 9)]] * 3, *[[(NEW, 9)]] * 3, *[[(OLD, 9)]] * 2)
    assert (records[OLD].state, records[NEW].state) == (State.SUPPORTED, State.RETIRED)


def test_two_ways_that_rounds_go_on_showing_are_both_served() -> None:
    records = after(*[[(OLD, 9), (NEW, 2)]] * 6)
    assert records[OLD].served
    assert records[NEW].served


def test_an_invented_item_is_retired_by_the_first_round_that_does_not_repeat_it() -> None:
    first = after([(OLD, 4), (NEW, 1)])
    assert (first[OLD].state, first[NEW].state) == (State.SUPPORTED, State.DISPUTED)
    second = after([(OLD, 4), (NEW, 1)], [(OLD, 4)])
    assert (second[OLD].state, second[NEW].state) == (State.SUPPORTED, State.RETIRED)


def test_a_round_that_shows_neither_changes_neither() -> None:
    before = after([(OLD, 4)], [(OLD, 4)])
    assert after([(OLD, 4)], [(OLD, 4)], [(OTHER, 3)])[OLD].state is before[OLD].state


def test_other_wordings_become_one_item() -> None:
    first, second = f"{MARKER} 'Close A7' is done with: shop end A7", f"{MARKER} close A7 is done with: `shop end A7`."
    (record,) = after([(first, 1)], [(second, 2)]).values()
    assert (record.item.text, record.wordings, record.support) == (first, (second,), 3)
    kept = served({first: record}, item(first, "a"), item(second, "b"))
    assert kept.text == first
    assert kept.items[0].sources == ("a", "b")


def test_near_duplicates_without_a_subject_become_one_item() -> None:
    first, second = f"{MARKER} never step on 'H' cells", f"{MARKER} Never step on 'H' cell!"
    assert len(after([(first, 1)], [(second, 1)])) == 1
    assert len(after([(first, 1)], [(second.replace("H", "K"), 1)])) == 2


def test_a_retired_item_is_replaced_by_what_contradicts_it() -> None:
    records = after([(OLD, 9)], [(NEW, 9)], [(NEW, 9)])
    assert served(records, item(OLD), item(OTHER)).text == NEW
    assert served(records, item(OLD), item(NEW)).text == NEW


def test_the_cap_removes_what_the_fewest_recent_episodes_showed() -> None:
    records = after([(OTHER, 9), (OLD, 2)], [(OTHER, 9)])
    kept = served(records, item(OTHER), item(OLD), cap=8)
    assert (kept.text, kept.dropped_over_cap) == (OTHER, 1)  # the older and better supported one stays


def test_the_cap_removes_what_this_round_contradicts_before_what_is_older() -> None:
    records = after([(OTHER, 4)], [(OLD, 2), (OTHER, 1), (NEW, 1)])
    assert records[OLD].evidence > 0
    assert (records[OTHER].evidence, records[OLD].evidence, records[NEW].evidence) == (2.0, 2.0, 1.0)
    kept = served(records, item(OTHER), item(OLD), item(NEW), cap=14)
    assert kept.text == f"{OTHER}\n{OLD}"
    kept = served(records, item(OTHER), item(OLD), item(NEW), cap=8)
    assert kept.text == OTHER  # as much evidence, but one episode is against the other one


def test_the_cap_removes_what_costs_passes_first_and_what_brings_them_last() -> None:
    records = after([(OTHER, 9), (OLD, 2)])
    for value, stays in ((None, OTHER), (-0.4, OTHER), (0.4, OLD)):
        records[OLD] = records[OLD].model_copy(update={"value": value})
        assert served(records, item(OTHER), item(OLD), cap=8).text == stays
    records[OTHER] = records[OTHER].model_copy(update={"value": -0.1})
    records[OLD] = records[OLD].model_copy(update={"value": None})
    assert served(records, item(OTHER), item(OLD), cap=8).text == OLD


def test_a_value_lasts_one_round() -> None:
    records = [record.model_copy(update={"value": 0.5}) for record in after([(OLD, 2)]).values()]
    assert [record.value for record in revise(records, {}, 2)] == [None]


def test_items_without_a_life_get_one() -> None:
    known = after([(OLD, 2)])
    records = adopt(list(known.values()), [item(OLD), item(OTHER).model_copy(update={"support": 3})])
    assert [(record.item.text, record.support, record.evidence) for record in records] == [
        (OLD, 2, 2.0),
        (OTHER, 3, 3.0),
    ]


def test_a_retired_item_is_not_carried_for_ever() -> None:
    records = after([(OLD, 2)], *[[(NEW, 9)]] * 12)
    assert OLD not in records
    assert records[NEW].evidence > FORGOTTEN


FOUND = st.tuples(st.sampled_from([OLD, NEW, OTHER, "free"]), st.integers(1, 4))


@given(st.lists(st.lists(FOUND, max_size=4), min_size=1, max_size=8))
def test_of_every_subject_something_is_served(rounds: list[list[tuple[str, int]]]) -> None:
    records = after(*rounds)
    of_h = [records[text] for text in (OLD, NEW) if text in records]
    assert not of_h or any(record.served for record in of_h)
    assert all(record.served for text, record in records.items() if text in (OTHER, "free"))
    assert all(0 <= record.evidence <= record.support and record.since <= record.last for record in records.values())
