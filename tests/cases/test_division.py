"""Which sessions are trained on: nothing that is measured on, nor anything like it or of the same person."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oel_core.cases.division import AssignedSession, Place, divide
from oel_core.cases.similarity import NearDuplicates, user_text
from oel_core.config.operation import CasesConfig
from oel_core.text.shingles import jaccard, shingles
from oel_core.types import Trajectory
from tests.cases.sessions import said, session

SETTINGS = CasesConfig()


def sessions(count: int, start: int = 0) -> list[Trajectory]:
    """Sessions that have nothing in common."""
    return [session(f"e{number}", (said(number), "Yes.")) for number in range(start, start + count)]


def divided(new: list[Trajectory], earlier: list[AssignedSession] | None = None, seed: int = 0) -> list[Place]:
    return divide(new, earlier or [], SETTINGS, seed)


def test_shares_are_those_of_the_settings_and_drawn_by_the_seed() -> None:
    places = divided(sessions(50))
    assert Counter(places) == {"held_out": 10, "validation": 5, "training": 35}
    assert places == divided(sessions(50))
    assert places != divided(sessions(50), seed=1)


def test_where_a_session_goes_does_not_depend_on_the_order_of_the_inbox() -> None:
    new = sessions(50)
    there = dict(zip([one.id for one in new], divided(new), strict=True))
    back = dict(zip([one.id for one in reversed(new)], divided(new[::-1]), strict=True))
    assert there == back


def test_a_person_is_never_divided() -> None:
    new = [session(f"e{n}", (said(n), "Yes."), user=f"u{n % 10}") for n in range(40)]
    places = divided(new)
    for person in range(10):
        assert len({place for one, place in zip(new, places, strict=True) if one.user == f"u{person}"}) == 1
    assert "held_out" in places


def test_near_duplicates_are_never_divided() -> None:
    questions = [f"Please send the parcel of {said(n)} to the shop in the old town" for n in range(20)]
    new = [
        session(f"e{n}-{again}", (text + "!" * again, "Yes.")) for n, text in enumerate(questions) for again in range(3)
    ]
    places = divided(new)
    for at in range(0, len(new), 3):
        assert len(set(places[at : at + 3])) == 1


def test_a_group_over_its_share_is_trained_on() -> None:
    new = [session(f"e{n}", (said(n), "Yes."), user="one") for n in range(30)] + sessions(10, 100)
    assert set(divided(new)[:30]) == {"training"}


def test_later_sessions_go_where_their_person_and_their_likes_went() -> None:
    first = [session(f"e{n}", (said(n), "Yes."), user=f"u{n}") for n in range(30)]
    places = divided(first)
    earlier = [AssignedSession.of(one, place) for one, place in zip(first, places, strict=True)]
    again = [session(f"f{n}", (said(n + 100), "Yes."), user=f"u{n}") for n in range(30)]
    alike = [session(f"g{n}", (said(n).upper(), "Yes."), user=f"v{n}") for n in range(30)]
    assert divided(again, earlier) == places
    assert divided(alike, earlier) == places


def test_what_joins_training_and_cases_is_neither() -> None:
    first = [session(f"e{n}", (said(n), "Yes."), user=f"u{n}") for n in range(30)]
    places = divided(first)
    earlier = [AssignedSession.of(one, place) for one, place in zip(first, places, strict=True)]
    held, trained = places.index("held_out"), places.index("training")
    between = session("b", (said(trained), "Yes."), user=f"u{held}")
    assert divided([between, *sessions(20, 200)], earlier)[0] == "aside"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(0, 3),
)
def test_no_person_conversation_or_text_is_on_both_sides(rows: list[tuple[int, int, int]], cut: int) -> None:
    """Over two rounds of any people, conversations and texts, what is trained on shares none with the cases."""
    new = [
        session(f"e{at}", (said(text), "Yes."), user=f"u{user}" if user else "", session=f"s{talk}" if talk else "")
        for at, (user, talk, text) in enumerate(rows)
    ]
    at = len(new) * cut // 4
    first = divided(new[:at])
    earlier = [AssignedSession.of(one, place) for one, place in zip(new[:at], first, strict=True)]
    places = [*first, *divided(new[at:], earlier)]
    trained = [one for one, place in zip(new, places, strict=True) if place == "training"]
    measured = [one for one, place in zip(new, places, strict=True) if place in ("held_out", "validation")]
    for known in ("user", "session"):
        shared = {getattr(one, known) for one in trained} & {getattr(one, known) for one in measured}
        assert shared <= {""}
    assert not {user_text(one) for one in trained} & {user_text(one) for one in measured}


@settings(deadline=None)
@given(st.text(), st.text())
def test_similarity_is_a_share(first: str, second: str) -> None:
    one, other = shingles(first), shingles(second)
    assert 0 <= jaccard(one, other) == jaccard(other, one) <= 1
    assert jaccard(one, one) == (1 if one else 0)


def test_near_duplicates_by_words_not_by_letters() -> None:
    found = NearDuplicates(0.7)
    text = "could you please tell me when the blue chair of my last order is going to be sent"
    assert found.add(text) == []
    assert found.add(text.replace("blue", "BLUE") + "?!") == [0]
    assert found.add("close order A243") == []
    assert found.add("close order A244") == []
    assert found.add("注文の青い椅子はいつ届きますか教えてください") == []
    assert found.add("注文の青い椅子はいつ届きますか、教えてください!") == [4]
    assert found.add("...") == found.add("...") == []
