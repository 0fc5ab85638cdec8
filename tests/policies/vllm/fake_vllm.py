"""A stand-in for what `oel_core.policies.vllm.policy` uses of the vllm package. It answers with the prompt."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class EngineDeadError(Exception):
    pass


class EngineGenerateError(Exception):
    pass


@dataclass
class FakeEngine:
    """Writes down what it was asked to do, in order."""

    options: dict[str, Any]
    done: list[str] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    """Of every request."""
    fails_with: Exception | None = None

    async def generate(self, request: Any, parameters: Any, name: str, lora_request: Any) -> AsyncIterator[Any]:
        self.parameters.append(parameters)
        self._do(f"generate under {lora_request and lora_request.lora_int_id}")
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=list(request["prompt_token_ids"]))])

    async def add_lora(self, request: Any) -> bool:
        self._do(f"add {request.lora_int_id}")
        return True

    async def remove_lora(self, number: int) -> bool:
        self._do(f"remove {number}")
        return True

    async def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        self._do(f"{method} {kwargs['weights_path'].rpartition('/')[2]}")

    async def reset_prefix_cache(self) -> None:
        self._do("reset cache")

    async def sleep(self, level: int) -> None:
        self._do(f"sleep {level}")

    async def wake_up(self) -> None:
        self._do("wake")

    def shutdown(self) -> None:
        self.done.append("shutdown")

    def _do(self, what: str) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.done.append(what)


@dataclass
class FakeVllm:
    """The package; `engines` are those that it started."""

    engines: list[FakeEngine] = field(default_factory=list)

    def module(self) -> Any:
        return SimpleNamespace(
            AsyncEngineArgs=lambda **options: options,
            SamplingParams=lambda **settings: settings,
            TokensPrompt=lambda **prompt: prompt,
            sampling_params=SimpleNamespace(
                RequestOutputKind=SimpleNamespace(FINAL_ONLY=2), StructuredOutputsParams=lambda **fields: fields
            ),
            lora=SimpleNamespace(request=SimpleNamespace(LoRARequest=_lora)),
            v1=SimpleNamespace(
                engine=SimpleNamespace(
                    async_llm=SimpleNamespace(AsyncLLM=SimpleNamespace(from_engine_args=self._start)),
                    exceptions=SimpleNamespace(
                        EngineDeadError=EngineDeadError, EngineGenerateError=EngineGenerateError
                    ),
                )
            ),
        )

    def _start(self, options: dict[str, Any]) -> FakeEngine:
        self.engines.append(FakeEngine(options))
        return self.engines[-1]


def _lora(name: str, number: int, path: str) -> Any:
    return SimpleNamespace(lora_name=name, lora_int_id=number, lora_path=path)
