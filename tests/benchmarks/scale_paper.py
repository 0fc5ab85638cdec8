"""What a thousand deployments with 10^8 sessions a month would take, from measured rates and named assumptions.

    python -m tests.benchmarks.scale_paper        # the table of docs/scale.md

Nothing of that size was run. `MEASURED` has figures of docs/benchmarks.md and docs/scale.md, of this project's code at
small sizes; `ASSUMED` what has to be assumed about load, model, hardware and prices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields

MONTH_S = 30 * 86400.0
GB, TB = 1e9, 1e12
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """Of the code, on two cores; where from is said beside each."""

    inbox_bytes: float = 14_120
    """A session of four turns in the inbox, with token ids (`session_bytes`)."""
    inbox_gzip_bytes: float = 2_632
    """The same compressed (`session_bytes`)."""
    journal_bytes: float = 928
    """Of the gateway's journal for each session of the last 30 days (`session_bytes`)."""
    gateway_ms: float = 3.3
    """Processor time of the gateway for a streamed request, HTTP included (docs/benchmarks.md)."""
    gateway_rate: float = 340
    """Requests a second that one gateway answers at best (docs/benchmarks.md)."""
    reading_ms: float = 0.23
    """Processor time of a round for a session that it reads (`session_bytes`)."""
    round_s: float = 19.0
    """A round of a tiny model: a process, imports, files, databases (docs/benchmarks.md, a week of rounds)."""
    prefect_mib: float = 0.45
    """Growth of Prefect's database in a round (docs/benchmarks.md)."""
    mlflow_mib: float = 0.06
    """Growth of MLflow's database in a round (docs/benchmarks.md)."""


@dataclass(frozen=True)
class Assumed:
    """About load, model, hardware and prices: change it to what is yours."""

    deployments: float = 1e3
    sessions: float = 1e8
    """A month, of all deployments."""
    turns: float = 4
    system_tokens: float = 150
    question_tokens: float = 30
    answer_tokens: float = 100
    peak: float = 5
    """The busiest second, as a multiple of the mean."""
    kept_months: float = 1
    """How long sessions stay (`oel forget --older-than 30d`)."""
    rounds: float = 30
    """A month, of one deployment."""
    night_hours: float = 8
    """In which the rounds of a night have to be done."""
    extracted: float = 500
    """Sessions of a round that knowledge is extracted from."""
    extraction_tokens: float = 300
    """Written about each."""
    knowledge_tokens: float = 2_048
    steps: float = 20
    samples_a_step: float = 64
    cases: float = 300
    arms: float = 2
    """Evaluations of each case: candidate, and candidate with knowledge."""
    parameters: float = 4e9
    adapter_bytes: float = 132e6
    """LoRA of rank 32 on all linear layers of a 4B model, bfloat16."""
    kept_adapters: float = 3
    """Of one deployment: champion, previous, candidate."""
    generated_a_second: float = 8_000
    """One GPU of 80 GB with continuous batching, all sequences in flight (as tests/benchmarks/preset_hours.py)."""
    single_a_second: float = 60
    """The same GPU with one sequence."""
    prefill_a_second: float = 40_000
    training_flops: float = 2.5e14
    """A second (as tests/benchmarks/preset_hours.py)."""
    load_s: float = 120
    """Loading the model and the engine, once a round."""
    gpu_price: float = 2.5
    """US dollars an hour."""
    core_price: float = 0.04
    """US dollars an hour."""
    disk_price: float = 80
    """US dollars a TB and month, block storage; object storage is about 23."""


@dataclass(frozen=True)
class Scale:
    """Everything that follows from the two."""

    measured: Measured = field(default_factory=Measured)
    assumed: Assumed = field(default_factory=Assumed)

    @property
    def requests_a_second(self) -> float:
        """Mean over the month, all deployments."""
        return self.assumed.sessions * self.assumed.turns / MONTH_S

    @property
    def sessions_a_round(self) -> float:
        """New sessions of one deployment between two rounds."""
        return self.assumed.sessions / self.assumed.deployments / self.assumed.rounds

    @property
    def prompt_tokens(self) -> float:
        """Of a whole session: every request sends the conversation so far."""
        one = self.assumed
        turn = [
            one.system_tokens + (n + 1) * one.question_tokens + n * one.answer_tokens for n in range(int(one.turns))
        ]
        return sum(turn)

    @property
    def all_rounds(self) -> float:
        """A month, of all deployments."""
        return self.assumed.deployments * self.assumed.rounds

    @property
    def inbox_tb(self) -> float:
        return self.assumed.sessions * self.assumed.kept_months * self.measured.inbox_bytes / TB

    @property
    def archive_tb(self) -> float:
        """The same, compressed."""
        return self.inbox_tb * self.measured.inbox_gzip_bytes / self.measured.inbox_bytes

    @property
    def journals_tb(self) -> float:
        return self.assumed.sessions * self.measured.journal_bytes / TB

    @property
    def adapters_tb(self) -> float:
        return self.assumed.deployments * self.assumed.kept_adapters * self.assumed.adapter_bytes / TB

    @property
    def adapters_if_all_are_kept_tb(self) -> float:
        return self.all_rounds * self.assumed.adapter_bytes / TB

    @property
    def prefect_gb(self) -> float:
        return self.all_rounds * self.measured.prefect_mib * MIB / GB

    @property
    def mlflow_gb(self) -> float:
        return self.all_rounds * self.measured.mlflow_mib * MIB / GB

    @property
    def used_share(self) -> float:
        """Of all sessions, those that a round extracts from, trains on one prompt of, or evaluates on."""
        one = self.assumed
        return min(1.0, (one.extracted + one.steps * one.samples_a_step + one.cases) / self.sessions_a_round)

    @property
    def serving_gpu_hours(self) -> float:
        """A month, for the mean load."""
        one = self.assumed
        seconds = one.turns * one.answer_tokens / one.generated_a_second + self.prompt_tokens / one.prefill_a_second
        return one.sessions * seconds / 3600

    @property
    def serving_gpus(self) -> float:
        """That the busiest second needs, if all deployments share a base model and differ by adapters."""
        return self.serving_gpu_hours * self.assumed.peak * 3600 / MONTH_S

    @property
    def gateway_core_hours(self) -> float:
        return self.assumed.sessions * self.assumed.turns * self.measured.gateway_ms / 1000 / 3600

    @property
    def reading_core_hours(self) -> float:
        return self.assumed.sessions * self.measured.reading_ms / 1000 / 3600

    @property
    def orchestration_core_hours(self) -> float:
        return self.all_rounds * self.measured.round_s / 3600

    @property
    def extraction_s(self) -> float:
        """Of a round, all sessions in flight."""
        one = self.assumed
        read = self.prompt_tokens + one.turns * one.answer_tokens + one.knowledge_tokens
        return one.extracted * (one.extraction_tokens / one.generated_a_second + read / one.prefill_a_second)

    @property
    def sequential_extraction_s(self) -> float:
        """Of a round with `extract.with_previous`: one session after the other."""
        return self.assumed.extracted * self.assumed.extraction_tokens / self.assumed.single_a_second

    @property
    def distillation_s(self) -> float:
        """Of a round: rollouts, and 6 operations a parameter and token for the student, 2 for the teacher."""
        one = self.assumed
        samples = one.steps * one.samples_a_step
        tokens = self.prompt_tokens / one.turns + one.answer_tokens
        return (
            samples * one.answer_tokens / one.generated_a_second
            + samples * tokens * 8 * one.parameters / one.training_flops
        )

    @property
    def evaluation_s(self) -> float:
        """Of a round."""
        return self.assumed.cases * self.assumed.arms * self.assumed.answer_tokens / self.assumed.generated_a_second

    @property
    def round_gpu_s(self) -> float:
        return self.assumed.load_s + self.extraction_s + self.distillation_s + self.evaluation_s

    @property
    def round_gpu_hours(self) -> float:
        """A month, of all deployments."""
        return self.all_rounds * self.round_gpu_s / 3600

    @property
    def round_gpus(self) -> float:
        """That do all rounds of a night in its hours."""
        return self.assumed.deployments * self.round_gpu_s / 3600 / self.assumed.night_hours

    @property
    def dollars(self) -> float:
        """A month: GPUs by the hours of their work, cores likewise, storage."""
        one = self.assumed
        gpus = (self.serving_gpus * MONTH_S / 3600 + self.round_gpu_hours) * one.gpu_price
        cores = self.gateway_core_hours + self.reading_core_hours + self.orchestration_core_hours
        return gpus + cores * one.core_price + (self.inbox_tb + self.adapters_tb + self.journals_tb) * one.disk_price

    @property
    def sessions_of_one_gateway(self) -> float:
        """A month: where the busiest second reaches what one gateway answers."""
        return self.measured.gateway_rate / self.assumed.peak / self.assumed.turns * MONTH_S


Row = tuple[str, str, str, Callable[[Scale], float]]
ROWS: tuple[Row, ...] = (
    ("requests, mean", "{:.0f} a second", "sessions · turns / month", lambda one: one.requests_a_second),
    (
        "requests of one deployment, busiest second",
        "{:.2f} a second",
        "mean · peak / deployments",
        lambda one: one.requests_a_second * one.assumed.peak / one.assumed.deployments,
    ),
    ("new sessions for a round", "{:,.0f}", "sessions / deployments / rounds", lambda one: one.sessions_a_round),
    ("stored: inboxes", "{:.2f} TB", "sessions · months kept · M 14,120 bytes", lambda one: one.inbox_tb),
    ("the same compressed (gzip)", "{:.2f} TB", "M 2,632 bytes", lambda one: one.archive_tb),
    ("stored: journals of the gateways", "{:.2f} TB", "sessions · M 928 bytes", lambda one: one.journals_tb),
    ("stored: adapters", "{:.2f} TB", "deployments · 3 · 132 MB", lambda one: one.adapters_tb),
    (
        "if the adapter of every round is kept",
        "{:.1f} TB more each month",
        "rounds · 132 MB",
        lambda one: one.adapters_if_all_are_kept_tb,
    ),
    ("Prefect's database", "{:.1f} GB more each month", "rounds · M 0.45 MiB", lambda one: one.prefect_gb),
    ("MLflow's database", "{:.1f} GB more each month", "rounds · M 0.06 MiB", lambda one: one.mlflow_gb),
    (
        "sampled: sessions that a round uses",
        "{:.0%}",
        "(extracted + prompts + cases) / new",
        lambda one: one.used_share,
    ),
    ("computed: gateways", "{:,.0f} core hours", "requests · M 3.3 ms", lambda one: one.gateway_core_hours),
    ("computed: reading sessions", "{:,.1f} core hours", "sessions · M 0.23 ms", lambda one: one.reading_core_hours),
    (
        "computed: rounds without their model",
        "{:,.0f} core hours",
        "rounds · M 19 s",
        lambda one: one.orchestration_core_hours,
    ),
    ("computed: answers", "{:,.0f} GPU hours", "tokens / A rates", lambda one: one.serving_gpu_hours),
    ("GPUs for the busiest second", "{:.0f}", "hours · peak / month", lambda one: one.serving_gpus),
    ("a round: extraction, all sessions in flight", "{:.0f} s", "tokens / A rates", lambda one: one.extraction_s),
    (
        "a round: extraction, one session after the other",
        "{:,.0f} s",
        "extracted · 300 tokens / A 60 a second",
        lambda one: one.sequential_extraction_s,
    ),
    (
        "a round: distillation",
        "{:.0f} s",
        "8 · parameters · tokens / A rate, and rollouts",
        lambda one: one.distillation_s,
    ),
    ("a round: evaluation", "{:.0f} s", "cases · arms · 100 tokens / A rate", lambda one: one.evaluation_s),
    ("computed: all rounds", "{:,.0f} GPU hours", "rounds · (A 120 s + the three)", lambda one: one.round_gpu_hours),
    ("GPUs for the rounds of a night", "{:.1f}", "in A 8 hours", lambda one: one.round_gpus),
    ("costs", "{:,.0f} US dollars a month", "A prices", lambda one: one.dollars),
)


def table(scale: Scale) -> Iterator[str]:
    """Markdown lines."""
    yield "| quantity | value | from |"
    yield "|---|---|---|"
    for name, shown, formula, value in ROWS:
        yield f"| {name} | {shown.format(value(scale))} | {formula} |"


def assumptions(assumed: Assumed) -> Iterator[str]:
    """Name and value of every assumption."""
    for one in fields(assumed):
        yield f"{one.name}: {getattr(assumed, one.name):g}"


def main() -> None:
    print("\n".join(table(Scale())))
    print("\n" + "\n".join(assumptions(Assumed())))


if __name__ == "__main__":
    main()
