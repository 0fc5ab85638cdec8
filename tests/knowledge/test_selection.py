"""Selection of knowledge files by score, and sampling among them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from oel_core.config.knowledge import SelectionConfig
from oel_core.knowledge.selection import Scored, choose, sample_file
from oel_core.seeds import derive_seed

FILES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 50)).map(lambda entry: (entry[0] / 8, entry[1])), min_size=1, max_size=9
).map(lambda rows: [Scored(replica, rate, tokens) for replica, (rate, tokens) in enumerate(rows)])


@given(FILES, st.integers(1, 12))
def test_no_file_that_is_left_out_scores_higher_than_one_that_is_kept(files: list[Scored], m: int) -> None:
    choice = choose(files, SelectionConfig(use="top_m", m=m))
    assert len(choice.replicas) == min(m, len(files))
    kept = [file.pass_rate for file in files if file.replica in choice.replicas]
    left = [file.pass_rate for file in files if file.replica not in choice.replicas]
    assert not left or min(kept) >= max(left)


@given(FILES)
def test_weights_add_up_and_follow_the_scores(files: list[Scored]) -> None:
    choice = choose(files, SelectionConfig(use="weighted"))
    assert choice.replicas == tuple(sorted(choice.replicas))
    if choice.weights is None:
        assert all(file.pass_rate == 0 for file in files)
        assert len(choice.replicas) == len(files)
    else:
        assert abs(sum(choice.weights) - 1) < 1e-9
        assert all(weight > 0 for weight in choice.weights)


def test_of_equal_scores_the_shorter_text_wins_then_the_lower_replica() -> None:
    files = [Scored(0, 0.5, 30), Scored(1, 0.5, 20), Scored(2, 0.5, 20), Scored(3, 0.25, 1)]
    assert choose(files, SelectionConfig(use="best")).replicas == (1,)
    assert choose(files, SelectionConfig(use="all")).replicas == (0, 1, 2, 3)


def test_draws_follow_the_weights_and_without_them_are_what_they_always_were() -> None:
    seeds = [derive_seed("draw", index) for index in range(4000)]
    assert [sample_file(3, None, seed) for seed in seeds] == [seed % 3 for seed in seeds]
    counts = Counter(sample_file(3, (0.5, 0.0, 0.5), seed) for seed in seeds)
    assert counts[1] == 0
    assert abs(counts[0] - 2000) < 150
    assert sample_file(2, (0.5, 0.5), 2**63 - 1) == 1


def test_weights_are_relative_to_each_other() -> None:
    eighths = [eighth * 2**60 for eighth in range(8)]
    assert [sample_file(2, (1.0, 3.0), seed) for seed in eighths] == [0, 0, 1, 1, 1, 1, 1, 1]
