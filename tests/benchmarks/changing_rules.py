"""Knowledge over rounds of a world whose rules change: accumulated as in the paper, and revised.

    python -m tests.benchmarks.changing_rules --seeds 3 --rounds 8 --change 5

The lake of the preset `quickstart` and the embedded model, which is not trained here: a round plays episodes, extracts
items, and adds them to the files or revises these. From round `--change` on the letters of hole and goal are exchanged.
Both ways read the same episodes and the same answers of the extractor. Measured on validation boards of the world as it
is in that round: the pass rate with the files in the prompt. Prints a Markdown row a round, a value for each seed.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oel_core.config.run import OelConfig, load_config
from oel_core.envs import answer_shape, extraction_examples, extraction_task
from oel_core.envs.base import Environment, env_spec
from oel_core.knowledge.extraction import extract_replicas
from oel_core.knowledge.item_records import ItemRecord
from oel_core.knowledge.revision import revise_files
from oel_core.policies import load_policy
from oel_core.policies.base import Policy
from oel_core.rollouts.planning import EpisodePlan, plan_episodes
from oel_core.rollouts.playing import play_episodes
from oel_core.types import Knowledge, Split, Trajectory

WAYS = ("accumulated", "revised")
BEFORE, AFTER = (
    {"hole": "H", "trap": "X", "key": "K", "goal": "G"},
    {"hole": "G", "trap": "X", "key": "K", "goal": "H"},
)
STALE = {False: ("'H' is the goal", "'G' ends"), True: ("'G' is the goal", "'H' ends")}
"""How a wrong item of the seed model's extractor reads, before and after the change."""


@dataclass
class Files:
    """The knowledge files of one way of keeping them."""

    texts: Mapping[int, Knowledge] = field(default_factory=dict)
    records: Sequence[ItemRecord] = ()


def settings(seed: int, changed: bool, cap: int) -> OelConfig:
    """The quickstart's settings, in the world as it was or as it is after the change."""
    config = load_config("quickstart", [f"seed={seed}", f"knowledge.max_tokens={cap}"])
    world = config.environment
    options = {**world.options, "symbols": AFTER if changed else BEFORE}
    return config.model_copy(update={"environment": world.model_copy(update={"options": options})})


def planned(config: OelConfig, split: Split, number: int, replica: int, episodes: int) -> list[EpisodePlan]:
    """Boards of the world as it is."""
    return plan_episodes(env_spec(config), config.seed, split, number, replica, episodes, split_by_layout=True)


def learn(config: OelConfig, policy: Policy, number: int, kept: Mapping[str, Files]) -> None:
    """One round: the same episodes and the same answers of the extractor for both ways."""
    played: dict[int, list[Trajectory]] = {}
    for replica in range(config.collect.replicas):
        plans = planned(config, Split.EXTRACT, number, replica, config.use_after)
        played[replica] = list(play_episodes(policy, env_spec(config), plans, config.play, seed=config.seed))
    rows = None
    for way, files in kept.items():
        results = extract_replicas(
            policy,
            played,
            config.extract,
            task=extraction_task(config),
            examples=extraction_examples(config),
            shape=answer_shape(config),
            previous=files.texts,
            cap=config.knowledge,
            round_index=number,
            seed=config.seed,
            done=rows,
        )
        rows = {replica: result.raw for replica, result in results.items()}
        states = [result.states[: config.use_after + 1] for result in results.values()]
        if way == "revised":
            cap, count = config.knowledge.max_tokens, policy.count_tokens
            made, files.records = revise_files(states, files.records, number, cap, count)
        else:
            made = [replica[-1].knowledge for replica in states]
        files.texts = {knowledge.replica: knowledge for knowledge in made}


def pass_rate(config: OelConfig, policy: Policy, number: int, files: Files, episodes: int) -> float:
    """With each episode's file in the prompt, the replicas' files in turn."""
    plans = planned(config, Split.VALIDATION, number, 0, episodes)
    texts = [knowledge.text for knowledge in files.texts.values()]

    def known(plan: EpisodePlan, world: Environment) -> str:
        return texts[plan.index % len(texts)]

    played = play_episodes(policy, env_spec(config), plans, config.play, knowledge=known, seed=config.seed)
    return sum(episode.passed for episode in played) / episodes


def stale(files: Files, changed: bool) -> float:
    """Share of the files with an item that the present rules contradict."""
    wrong = [any(words in one.text for words in STALE[changed]) for one in files.texts.values()]
    return sum(wrong) / len(wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--change", type=int, default=5, help="First round with the new rules.")
    parser.add_argument("--episodes", type=int, default=48, help="Validation episodes a round.")
    parser.add_argument("--cap", type=int, default=128, help="knowledge.max_tokens")
    options = parser.parse_args()
    kept = {seed: {way: Files() for way in WAYS} for seed in range(options.seeds)}
    print("| round | rules | " + " | ".join(f"{way}: pass rate | stale files" for way in WAYS) + " |")
    print("|" + "---|" * (2 + 2 * len(WAYS)))
    for number in range(1, options.rounds + 1):
        changed, cells = number >= options.change, list[str]()
        for way in WAYS:
            rates, old = list[str](), list[str]()
            for seed, files in kept.items():
                config = settings(seed, changed, options.cap)
                policy = load_policy(config.model.path, config.model)
                if way == WAYS[0]:
                    learn(config, policy, number, files)
                rates.append(f"{pass_rate(config, policy, number, files[way], options.episodes):.0%}")
                old.append(f"{stale(files[way], changed):.0%}")
            cells += [", ".join(rates), ", ".join(old)]
        print(f"| {number} | {'new' if changed else 'old'} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
