"""How a policy is served: one small block for each backend that is not plain transformers.

What is played is decided by `model.backend`, the checkpoint, and the fields that `DECIDING` names; the others say only
how fast and from where, so a run goes on after they were changed.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from oel_core.config.section import Count, CountOrZero, Section, Share
from oel_core.config.urls import check_base_url

DECIDING = ("model.openai.model", "model.openai.api", "model.openai.managed", "model.openai.tokenizer")
"""Dotted paths of the settings below that decide what a stage writes."""
_SPREAD = ("distill.processes", "distill.sharding", "model.threads")
"""How many processes and threads share the work changes its result by rounding only."""
_BOUNDS = "distill.stability."
"""When a distillation stops or goes back changes no step that it keeps; its step log says which those are."""


class VllmConfig(Section):
    """The vLLM engine, in this process or in a server that this process starts."""

    tensor_parallel: Count = 1
    """GPUs that one model is split over."""
    memory_share: Share = 0.9
    """Share of each GPU's memory that the engine takes."""
    cache_gib: float | None = Field(default=None, gt=0)
    """GiB of keys and values; null: what `memory_share` leaves on a GPU, 2 GiB on a CPU."""
    max_sequences: Count = 256
    """Episodes kept in flight at once."""
    prefix_caching: bool = True
    """Reuse keys and values of prompts that start alike."""
    eager: bool = False
    """Start in seconds rather than minutes, without compiled graphs; slower after that."""
    sleep: bool = True
    """While something else needs the GPU, keep the weights in main memory instead of ending the engine."""
    start_timeout_s: float = Field(default=900, gt=0)
    """Seconds until a server that this process starts must answer."""


class OpenAIConfig(Section):
    """A server that speaks the OpenAI API: vLLM, SGLang, llama.cpp or a hosted endpoint."""

    base_url: Annotated[str, AfterValidator(check_base_url)] | None = None
    """Like `http://127.0.0.1:8000/v1`, without user, password and query; null only with `managed`."""
    managed: bool = False
    """Start `vllm serve` on loopback, with the `model.vllm` settings, and end it with the run."""
    model: str | None = None
    """The server's name of the model; null: the only one that it serves."""
    tokenizer: str | None = None
    """Folder or hub id whose tokenizer and chat template are the served model's; null: those of `model.path`."""
    api: Literal["auto", "completions", "chat"] = "auto"
    """`completions` sends token ids, `chat` messages; auto: ids where the server takes them and gives them back."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key; the key itself belongs in no file."""
    concurrency: Count = 32
    """Requests in flight at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Upper limit of the request rate; null: none."""
    timeout_s: float = Field(default=300, gt=0)
    """Seconds that one attempt at a request may take."""
    retries: CountOrZero = 8
    """Further attempts after a time-out, a refusal for load (429), a server error or an answer that is not JSON."""
    give_up_after_s: float = Field(default=900, gt=0)
    """Seconds that a request may take with all its attempts and waits."""

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.managed and (self.base_url is not None or self.api_key_env is not None):
            raise ValueError("managed starts a server of its own: leave base_url and api_key_env out, or managed")
        return self


def decides(path: str) -> bool:
    """Whether the setting at a dotted path can change what a stage writes."""
    return path in DECIDING or not path.startswith(("model.vllm.", "model.openai.", _BOUNDS, *_SPREAD))
