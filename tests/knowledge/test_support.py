"""Support: in how many episodes the same item was found."""

from hypothesis import given
from hypothesis import strategies as st

from oel_core.knowledge.support import count_support, with_support
from tests.builders import item, knowledge_of


def test_support_counts_episodes_over_replicas_and_not_sightings():
    files = [
        knowledge_of(item("- A", "k00-e0", "k00-e1"), item("- B", "k00-e0")),
        knowledge_of(item("-  A ", "k01-e0"), replica=1),
    ]
    support = count_support(one for file in [*files, *files] for one in file.items)
    found = [with_support(file, support) for file in files]
    assert [[one.support for one in file.items] for file in found] == [[3, 1], [3]]
    assert [file.text for file in found] == [file.text for file in files]
    assert [one.sources for one in found[0].items] == [("k00-e0", "k00-e1"), ("k00-e0",)]  # its own replica's


def test_an_item_of_one_episode_has_no_such_field():
    assert "support" not in item("- A").model_dump()
    assert item("- A").model_copy(update={"support": 2}).model_dump()["support"] == 2


def test_an_item_that_was_cut_has_the_support_of_one_episode():
    assert with_support(knowledge_of(item("- half")), {"- whole": 4}).items[0].support == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("uvwxyz")), max_size=20))
def test_support_is_the_number_of_distinct_episodes(seen):
    support = count_support(item(text, episode) for text, episode in seen)
    assert support == {text: len({e for t, e in seen if t == text}) for text in {text for text, _ in seen}}
