"""Settings of the policy backends, a section for each except plain transformers, of where policies run, and of
`oel serve`.

Results depend on `model.backend`, the checkpoint, and the fields in `RESULT_FIELDS`; the other fields affect speed and
location only, so a run can be resumed after changing them.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from oel_core.config.section import Count, CountOrZero, Label, Section, Share, Text
from oel_core.config.urls import check_base_url

RESULT_FIELDS = ("model.openai.model", "model.openai.api", "model.openai.managed", "model.openai.tokenizer")
"""Dotted paths of the settings below that affect results."""
_SPREAD = (
    "distill.activation_offload",
    "distill.processes",
    "distill.nodes",
    "distill.nodes_wait_s",
    "distill.rendezvous",
    "distill.sharding",
    "model.threads",
)
"""The place of activations does not change results; processes, nodes and threads do by rounding errors only."""
_BOUNDS = "distill.stability."
"""Stopping and rollbacks do not change the steps that are kept."""
_CHANGES = "environment.changes"
"""A round's results depend on the options that it has; later changes do not touch it."""
_NO_RESULT = ("model.vllm.", "model.openai.", "serve.", "runner.", _BOUNDS, _CHANGES, *_SPREAD)


Port = Annotated[int, Field(ge=0, lt=2**16)]
Positive = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


class VllmConfig(Section):
    """The vLLM engine, in this process or in a managed server."""

    tensor_parallel: Count = 1
    """Number of GPUs per model."""
    memory_share: Share = 0.9
    """Share of each GPU's memory for the engine."""
    cache_gib: float | None = Field(default=None, gt=0)
    """GiB of KV cache; null: the rest of `memory_share` on a GPU, 2 GiB on a CPU."""
    max_sequences: Count = 256
    """Maximum concurrent sequences."""
    prefix_caching: bool = True
    """Reuse the KV cache of common prompt prefixes."""
    eager: bool = False
    """Start in seconds instead of minutes, without compiled graphs; generation is slower."""
    sleep: bool = True
    """While training needs the GPU, keep the weights in host memory instead of shutting the engine down."""
    start_timeout_s: float = Field(default=900, gt=0)
    """Seconds until a managed server must be ready."""


class OpenAIConfig(Section):
    """A server with the OpenAI API: vLLM, SGLang, llama.cpp or a hosted endpoint."""

    base_url: Annotated[str, AfterValidator(check_base_url)] | None = None
    """Like `http://127.0.0.1:8000/v1`, without user, password and query; null only with `managed`."""
    managed: bool = False
    """Start `vllm serve` on loopback with the `model.vllm` settings, and stop it with the run."""
    tool_call_parser: Label | None = None
    """vLLM's name of the form in which the served model writes tool calls, such as `hermes`, so that clients of a
    managed server may leave the choice of tools to the model (`tool_choice: auto`); null: they may not."""
    model: str | None = None
    """The server's name of the model; null: the only one it serves."""
    tokenizer: str | None = None
    """Folder or hub id of the served model's tokenizer and chat template; null: that of `model.path`."""
    api: Literal["auto", "completions", "chat"] = "auto"
    """`completions` sends token ids, `chat` messages; auto: token ids if the server accepts and returns them."""
    api_key_env: str | None = None
    """Name of the environment variable with the API key; the key itself must not be in a file."""
    concurrency: Count = 32
    """Maximum concurrent requests."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit; null: none."""
    timeout_s: float = Field(default=300, gt=0)
    """Time-out of one attempt, seconds."""
    retries: CountOrZero = 8
    """Retries after a time-out, a 429, a server error or a response that is not JSON."""
    give_up_after_s: float = Field(default=900, gt=0)
    """Maximum seconds of a request with all its attempts and waits."""

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.managed and (self.base_url is not None or self.api_key_env is not None):
            raise ValueError("managed starts a server of its own: leave base_url and api_key_env out, or managed")
        if self.tool_call_parser is not None and not self.managed:
            raise ValueError(
                "tool_call_parser is an option of the managed server: set managed, or start your own server with "
                f"--enable-auto-tool-choice --tool-call-parser {self.tool_call_parser}"
            )
        return self


class CandidateTraffic(Section):
    """What of the traffic a candidate gets while the gate waits for it (`gate.deployment.use`)."""

    share: Share = 0.1
    """Share of sessions that the candidate answers (`canary`), or is asked besides the champion (`shadow`)."""
    most_failures: Count = 5
    """Requests in a row that the candidate fails to answer, after which it gets none any more."""
    waiting: Count = 64
    """Shadow requests that may wait; further ones are left out."""


class RunnerConfig(Section):
    """Where policies run: in the run's own process, or in several workers on a Ray cluster (docs/scale.md)."""

    use: Literal["local", "ray"] = "local"
    """`ray` requires the extra `ray`. Each worker holds a copy of the policy and processes whole batches."""
    address: Text = "local"
    """`local` starts a cluster on this machine and stops it with the run; `host:port` is the head node of an existing
    cluster; `auto` is the cluster that this machine belongs to."""
    workers: Count = 2
    """Maximum number of workers; those that do not fit on the cluster wait until they do."""
    cpus: Amount = 1.0
    """CPU cores reserved for each worker; fractions share a core."""
    gpus: Amount = 0.0
    """GPUs reserved for each worker; fractions share a GPU."""
    memory_gib: Amount = 0.0
    """Memory reserved for each worker, GiB; 0: none."""
    resources: dict[str, Amount] = Field(default_factory=dict)
    """Custom resources reserved for each worker, such as `{"accelerator_type:H100": 0.001}`."""


LOCAL_RUNNER: Final = RunnerConfig()


class ServeConfig(Section):
    """`oel serve`: the champion's API and the recording of conversations. Does not affect rounds."""

    host: Text = "127.0.0.1"
    """Address to listen on; one other than loopback should be behind a TLS proxy."""
    port: Port = 8010
    """0: any free port."""
    token_env: str | None = None
    """Name of the environment variable with the bearer token; null: a generated token in the run's `.serve-token`."""
    privacy: Literal["mask", "drop", "keep"] = "mask"
    """Secrets and personal data: replace by pseudonyms, do not record such conversations, or record unchanged."""
    session_idle_s: Positive = 1800
    """Seconds without a request or feedback after which a conversation is written to the inbox as an episode."""
    top_score: Positive = 1.0
    """The best score of the feedback, such as 5 for five stars."""
    concurrency: Count = 32
    """Maximum concurrent requests."""
    queue: CountOrZero = 128
    """Maximum waiting requests; further ones get status 429."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit, with bursts of up to a tenth of it; null: none."""
    max_body_bytes: Count = 4 * 2**20
    """Maximum size of a request's body; larger ones get status 413."""
    timeout_s: Positive = 300
    """Time-out of an answer after its time in the queue, seconds."""
    drain_s: Positive = 30
    """Seconds that running answers have to finish at shutdown."""
    traces: Literal["off", "mlflow"] = "off"
    """`mlflow`: every recorded answer is a trace in the project's experiment too, masked as the record is, and feedback
    that people give there (MLflow's UI: assessments) counts as if it had been sent to `/v1/feedback`."""
    traces_s: Positive = 30
    """Polling interval of MLflow for such feedback, seconds."""
    refresh_s: Positive = 5
    """Polling interval of the registry for a new champion or candidate, seconds."""
    candidate: CandidateTraffic = CandidateTraffic()


def affects_results(path: str) -> bool:
    """Whether the setting at a dotted path affects results."""
    return path in RESULT_FIELDS or not path.startswith(_NO_RESULT)
