"""Settings of the policy backends, a section for each except plain transformers, and of `oel serve`.

Results depend on `model.backend`, the checkpoint, and the fields in `RESULT_FIELDS`; the other fields affect speed and
location only, so a run can be resumed after changing them.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from oel_core.config.section import Count, CountOrZero, Section, Share, Text
from oel_core.config.urls import check_base_url

RESULT_FIELDS = ("model.openai.model", "model.openai.api", "model.openai.managed", "model.openai.tokenizer")
"""Dotted paths of the settings below that decide what a stage writes."""
_SPREAD = ("distill.processes", "distill.sharding", "model.threads")
"""How many processes and threads share the work changes its result by rounding only."""
_BOUNDS = "distill.stability."
"""When a distillation stops or goes back changes no step that it keeps; its step log says which those are."""


Port = Annotated[int, Field(ge=0, lt=2**16)]
Positive = Annotated[float, Field(gt=0)]


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
        return self


class ServeConfig(Section):
    """`oel serve`: how agents reach the champion, and what is kept of their conversations. No round reads any of it."""

    host: Text = "127.0.0.1"
    """Address to listen on. Anything but loopback should stand behind a proxy that speaks TLS."""
    port: Port = 8010
    """0: any free one."""
    token_env: str | None = None
    """Name of the environment variable with the bearer token; null: one of its own, in the run's `.serve-token`."""
    privacy: Literal["mask", "drop", "keep"] = "mask"
    """Secrets and personal data in recorded conversations: pseudonyms, no such conversation, or as they are."""
    session_idle_s: Positive = 1800
    """Seconds without a request or feedback after which a conversation goes to the inbox as an episode."""
    top_score: Positive = 1.0
    """The best score that feedback can give: 5 for five stars."""
    concurrency: Count = 32
    """Requests that are answered at once."""
    queue: CountOrZero = 128
    """Requests that may wait for that; further ones are refused with 429."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Most requests a minute, with bursts of up to a tenth of it; null: no limit."""
    max_body_bytes: Count = 4 * 2**20
    """Largest request; larger ones are refused with 413."""
    timeout_s: Positive = 300
    """Seconds that an answer may take, from leaving the queue to its end."""
    drain_s: Positive = 30
    """Seconds that running answers get when the gateway is told to stop."""
    refresh_s: Positive = 5
    """Seconds between two looks at the registry for another champion."""


def affects_results(path: str) -> bool:
    """Whether the setting at a dotted path affects results."""
    return path in RESULT_FIELDS or not path.startswith(("model.vllm.", "model.openai.", "serve.", _BOUNDS, *_SPREAD))
