"""How fast episodes are played, as ratios within one run.

    python -m tests.benchmarks.rollout_speed batched            # transformers: 32 episodes at once, and one at a time
    python -m tests.benchmarks.rollout_speed decoding           # one more token, and with transformers' own cache
    python -m tests.benchmarks.rollout_speed vllm               # vLLM: this project's policy, and LLM.generate itself
    python -m tests.benchmarks.rollout_speed environments       # what one turn of each environment costs
    python -m tests.benchmarks.rollout_speed extraction         # replicas read side by side, and one after the other

The world is the quickstart's, and so is how much of it a prompt shows. Both sides of a ratio answer the same prompts
with the same model on the same machine, turn about, `--repeats` times; vLLM's two engines, which would not share a GPU,
one after the other.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from transformers import DynamicCache

from oel_core import envs
from oel_core.config.run import ExtractConfig, KnowledgeConfig, ModelConfig, PlayConfig, load_config
from oel_core.config.sampling import Sampling
from oel_core.envs.base import LEARN_RULES, EnvSpec, env_spec
from oel_core.knowledge.extraction import extract_replicas
from oel_core.models.checkpoints import SEED_LM
from oel_core.models.loading import load_model, load_tokenizer
from oel_core.policies.base import Completion, Policy, Request
from oel_core.policies.hf.decoding import sample_responses
from oel_core.policies.hf.policy import TransformersPolicy, stop_token_ids
from oel_core.policies.scripted import ScriptedPolicy
from oel_core.policies.text.chat import Chat, base_of
from oel_core.rollouts.playing import plan_episodes, play_episodes
from oel_core.types import Split, Trajectory
from tests.benchmarks.workload import ModelShape, Workload, load_workload_model, save_workload_model

QUICKSTART = load_config("quickstart")
WORLD = env_spec(QUICKSTART)
WORLDS = (WORLD, EnvSpec("frozen_lake", {}, 5), EnvSpec("sokoban", {}, 5), EnvSpec("textworld_coin", {}, 5))
LIVE, TOKENS, TYPICAL, REPLICAS = 32, 48, 256, 8
CONTEXTS = (256, 1024)
PLAY = PlayConfig(sampling=Sampling(temperature=0, max_tokens=TOKENS), history_turns=QUICKSTART.play.history_turns)


class OneAtATime:
    """transformers' own `generate`, a prompt a call."""

    reproducible, batch_size, name = True, 1, "one at a time"

    def __init__(self, model: Any, tokenizer: Any, config: ModelConfig) -> None:
        self._model = model
        self._chat = Chat.build(tokenizer, stop_token_ids(model, tokenizer), None, config, self.name)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        assert sampling.temperature == 0
        return [self._answer(request, sampling) for request in requests]

    def _answer(self, request: Request, sampling: Sampling) -> Completion:
        prompt = self._chat.prompt_ids(request.messages)
        drawn = self._model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=sampling.max_tokens,
            do_sample=False,
            eos_token_id=sorted(self._chat.stops),
            pad_token_id=self._chat.tokenizer.pad_token_id,
        )
        return self._chat.completion(prompt, drawn[0, len(prompt) :].tolist())

    def count_tokens(self, text: str) -> int:
        return len(self._chat.encode(text))

    def close(self) -> None:
        pass


def play(policy: Policy, world: EnvSpec = WORLD, episodes: int = LIVE) -> list[Trajectory]:
    plans = plan_episodes(world, 0, Split.VALIDATION, 0, 0, episodes, False)
    return list(play_episodes(policy, world, plans, PLAY, seed=0))


def responses(episodes: Sequence[Trajectory]) -> dict[str, list[tuple[int, ...]]]:
    return {episode.id: [turn.response_ids for turn in episode.turns] for episode in episodes}


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def turn_about(repeats: int, *sides: Callable[[], Any]) -> list[list[float]]:
    """Seconds of every side, `repeats` of each after one that is not counted."""
    for side in sides:
        side()
    rounds = [[seconds(side) for side in sides] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def spread(values: Sequence[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def live_on_average(episodes: Sequence[Trajectory]) -> float:
    """Episodes of one group that were still being played, over its turns."""
    turns = [len(episode.turns) for episode in episodes]
    return sum(turns) / max(turns)


def batched(repeats: int) -> None:
    """Whole episodes, of which fewer and fewer are live, and first turns, where all are."""
    config = ModelConfig(path=SEED_LM, batch_size=LIVE, device="cpu")
    model, tokenizer = load_model(SEED_LM, config)
    many, one = TransformersPolicy(model, tokenizer, config, SEED_LM), OneAtATime(model, tokenizer, config)
    for label, world in (("whole", WORLD), ("first turns of", replace(WORLD, max_turns=1))):
        found = play(many, world)
        same = responses(found) == responses(play(one, world))
        together, apart = turn_about(repeats, partial(play, many, world), partial(play, one, world))
        turns = sum(len(episode.turns) for episode in found)
        print(
            f"{label} {LIVE} episodes of {WORLD.name} with {SEED_LM}, {live_on_average(found):.1f} live on average; "
            f"the same responses: {same}; {repeats} repeats"
        )
        print(f"  batched        {spread([turns / s for s in together], 'turns/s')}")
        print(f"  one at a time  {spread([turns / s for s in apart], 'turns/s')}")
        print(f"  ratio          {spread([b / a for a, b in zip(together, apart, strict=True)], 'times')}")


@contextmanager
def transformers_own() -> Iterator[None]:
    """The decode loop with the cache and the attention of transformers."""
    with (
        patch("oel_core.policies.hf.prefill.preallocated_cache", lambda config, longest: DynamicCache(config=config)),
        patch("oel_core.policies.hf.decoding.attention_set_to", lambda model, name, instead_of: nullcontext()),
    ):
        yield


def decoding(repeats: int) -> None:
    """Answers of `TOKENS` tokens behind contexts of several lengths; reading the context is taken off."""
    model = small_language_model()
    print(f"{LIVE // 2} rows, a 135M model with 3 query heads a key head, float32; {repeats} repeats")
    for context in CONTEXTS:
        ids = torch.randint(1, 40_000, (context,), generator=torch.Generator().manual_seed(0)).tolist()
        prompts = [[*ids, *[row] * (1 + row)] for row in range(LIVE // 2)]  # so that most rows are padded

        def answer(tokens: int, prompts: list[list[int]] = prompts) -> None:
            sampling = Sampling(temperature=0, max_tokens=tokens)
            sample_responses(model, prompts, range(len(prompts)), sampling, [], 0)

        def own(tokens: int, answer: Callable[[int], None] = answer) -> None:
            with transformers_own():
                answer(tokens)

        read, found, theirs = turn_about(repeats, partial(answer, 1), partial(answer, TOKENS), partial(own, TOKENS))
        steps = [[1000 * (s - r) / (TOKENS - 1) for s, r in zip(side, read, strict=True)] for side in (found, theirs)]
        print(f"  context {context:5}  ours {spread(steps[0], 'ms/step')}  transformers {spread(steps[1], 'ms/step')}")
        print(f"    ratio {spread([b / a for a, b in zip(*steps, strict=True)], 'times')}")


def vllm(repeats: int) -> None:
    from vllm import LLM, SamplingParams

    from oel_core.policies.vllm.policy import VllmPolicy, runs_on_cpu
    from oel_core.policies.vllm.settings import engine_arguments

    settings = {"max_sequences": LIVE, "cache_gib": 0.5, "eager": True}
    config = ModelConfig(path=SEED_LM, backend="vllm", max_length=1024, vllm=settings)  # type: ignore[arg-type]
    policy = VllmPolicy.load(SEED_LM, config)
    turns = [turn for episode in play(policy, episodes=2 * LIVE) for turn in episode.turns]
    requests = [Request(turn.messages, number) for number, turn in enumerate(turns)]
    sampling = Sampling(temperature=0.7, max_tokens=TOKENS)
    answers: list[Completion] = []
    (ours,) = turn_about(repeats, lambda: answers.__setitem__(slice(None), policy.generate(requests, sampling)))
    tokens = sum(len(answer.response_ids) for answer in answers)
    stops = sorted(Chat.load(SEED_LM, config).stops)
    policy.close()
    arguments = engine_arguments(base_of(SEED_LM), 0, 1024, config, cpu=runs_on_cpu(config))
    raw = LLM(**arguments, disable_log_stats=True)
    prompts = [{"prompt_token_ids": list(answer.prompt_ids)} for answer in answers]
    drawn = [
        SamplingParams(temperature=0.7, max_tokens=TOKENS, seed=request.seed, stop_token_ids=stops)
        for request in requests
    ]
    (theirs,) = turn_about(repeats, lambda: raw.generate(prompts, drawn, use_tqdm=False))
    again = sum(len(one.outputs[0].token_ids) for one in raw.generate(prompts, drawn, use_tqdm=False))
    print(f"{len(requests)} prompts of {WORLD.name} with {SEED_LM}, {LIVE} in flight; {repeats} repeats")
    print(f"  VllmPolicy.generate  {spread([tokens / s for s in ours], 'tokens/s')}")
    print(f"  LLM.generate         {spread([again / s for s in theirs], 'tokens/s')}")
    ratio = (tokens / statistics.median(ours)) / (again / statistics.median(theirs))
    print(f"  ratio of the medians {ratio:.2f}")


def small_language_model() -> Any:
    """SmolLM2-135M's sizes, random weights. It never ends an answer by itself."""
    shape = ModelShape(hidden=576, layers=30, heads=9, kv_heads=3, head_dim=64, intermediate=1536, vocabulary=49_152)
    with TemporaryDirectory() as folder:
        save_workload_model(Workload(shape=shape), Path(folder))
        model = load_workload_model(Path(folder), Workload(shape=shape)).eval()
    model.generation_config.eos_token_id = None
    return model


def language_model() -> TransformersPolicy:
    """A policy as slow as a small language model, with the embedded tokenizer."""
    config = ModelConfig(path=SEED_LM, batch_size=LIVE, max_length=4096, device="cpu")
    return TransformersPolicy(small_language_model(), load_tokenizer(SEED_LM), config, "135M")


def environments(repeats: int) -> None:
    """The same play with a policy that costs nothing: what is left is the environments and the records."""
    free = ScriptedPolicy(lambda messages, seed: "[up]", batch_size=LIVE)
    slow = language_model()
    print(f"a turn of {LIVE} live episodes, everything but the policy; {repeats} repeats")
    print(f"  share: of a rollout with a 135M model on this CPU, {TOKENS} tokens a response (fewer than models write)")
    print(f"  5% at: tokens/s at which it would be 5% of a rollout with {TYPICAL} tokens a response")
    for world in WORLDS:
        plans = plan_episodes(world, 0, Split.VALIDATION, 0, 0, LIVE, False)
        envs.prepare_envs(world, [plan.seed for plan in plans], 1)
        episodes = play(free, world)
        turns = sum(len(episode.turns) for episode in episodes)
        (taken,) = turn_about(repeats, lambda world=world: play(free, world))  # type: ignore[misc]
        requests = [Request(episode.turns[-1].messages, 0) for episode in episodes]
        answering = 1000 * seconds(partial(slow.generate, requests, PLAY.sampling)) / len(requests)
        own = [1000 * s / turns for s in taken]
        least = statistics.median(own)
        share, limit = least / (least + answering), 0.05 / 0.95 * TYPICAL / least * 1000
        print(f"  {world.name:16} {spread(own, 'ms/turn'):32} share {share:6.2%}   5% at {limit:,.0f} tokens/s")


def extraction(repeats: int) -> None:
    """Each episode is read with what its replica knows so far, so that only replicas can go side by side."""
    policy, config = (
        language_model(),
        ExtractConfig(sampling=Sampling(temperature=0, max_tokens=64)),
    )
    free = ScriptedPolicy(lambda messages, seed: "[up]", batch_size=LIVE)
    played = play(free, episodes=REPLICAS * 2)
    read = partial(
        extract_replicas,
        policy,
        config=config,
        task=LEARN_RULES,
        previous={},
        cap=KnowledgeConfig(),
        round_index=1,
        seed=0,
    )
    replicas = {replica: played[replica::REPLICAS] for replica in range(REPLICAS)}

    def one_by_one() -> None:
        for replica, episodes in replicas.items():
            read({replica: episodes})

    together, apart = turn_about(repeats, partial(read, replicas), one_by_one)
    rows = next(iter(read(replicas).values())).raw
    print(
        f"{REPLICAS} replicas of {len(rows)} episodes, prompts of {rows[0].prompt_tokens} to {rows[-1].prompt_tokens} "
        f"tokens, {rows[0].response_tokens} tokens an answer, a 135M model; {repeats} repeats"
    )
    print(f"  side by side         {spread(together, 's')}")
    print(f"  one after the other  {spread(apart, 's')}")
    print(f"  ratio                {spread([b / a for a, b in zip(together, apart, strict=True)], 'times')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["batched", "decoding", "vllm", "environments", "extraction"])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    kinds = {
        "batched": batched,
        "decoding": decoding,
        "vllm": vllm,
        "environments": environments,
        "extraction": extraction,
    }
    kinds[chosen.what](chosen.repeats)
