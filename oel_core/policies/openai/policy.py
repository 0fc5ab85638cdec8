"""The policy for servers with the OpenAI API: vLLM, SGLang, llama.cpp, a hosted endpoint, or a managed `vllm serve`.

Token ids are sent and received if the server supports it, so records are exact. If the server returns text only, the
ids in the records are a local tokenizer's, marked as `IdSource.RETOKENISED`.
"""

import functools
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from oel_core.config.run import ModelConfig
from oel_core.config.sampling import Sampling
from oel_core.errors import ConfigError, PolicyError, PromptTooLongError
from oel_core.models.checkpoints import is_adapter, model_digest, resolve_model
from oel_core.policies.base import Completion, Request
from oel_core.policies.concurrent import BackgroundLoop, InFlightPolicy
from oel_core.policies.openai.client import ApiClient, ServerRefusal
from oel_core.policies.openai.managed_server import server_for
from oel_core.policies.openai.probe import TOO_LONG, Abilities, chat_body, extras, probe
from oel_core.policies.text.chat import Chat, checkpoint_name
from oel_core.policies.text.plain_tools import call_line
from oel_core.text.visible import well_formed
from oel_core.types import IdSource, StopReason, ToolCall

log = logging.getLogger(__name__)


@functools.cache
def _loop() -> BackgroundLoop:
    """One event loop for all servers; it is never stopped."""
    return BackgroundLoop("openai")


def api_key(config: ModelConfig) -> str | None:
    """The key in the configured environment variable. ConfigError if it is not set."""
    name = config.openai.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {name} (model.openai.api_key_env) is not set: put the API key in it"
        )
    return key


class OpenAIPolicy(InFlightPolicy):
    """Generation by a server; each request has its own seed."""

    def __init__(
        self,
        name: str,
        chat: Chat,
        client: ApiClient,
        abilities: Abilities,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name, chat, _loop(), client.concurrency)
        self.abilities = abilities
        self._taken: str | None = None
        self.client, self._on_close = client, on_close

    @classmethod
    def load(cls, path: str, config: ModelConfig) -> Self:
        """The policy of `model.openai`, which must serve `path` or be able to load it.

        Raises:
            ConfigError: wrong model name, rejected key, or a checkpoint that this server cannot serve.
            PolicyError: the server's response is unusable, or a managed server does not start.
        """
        server = server_for(path, config) if config.openai.managed else None
        settings = config.openai if server is None else server.settings(path)
        chat = Chat.load(settings.tokenizer or path, config)
        address = server.address if server else str(settings.base_url)
        client = (
            ApiClient(address, settings, server.key, server.process.require)
            if server
            else ApiClient(address, settings, api_key(config))
        )
        try:
            abilities = _loop().run(probe(client, settings, chat))
            name = checkpoint_name(path) if server else f"{abilities.model}@{client.host}"
            if server is None and path != config.path:
                name, abilities = _loop().run(_load_adapter(client, abilities, path))
        except BaseException:
            _loop().run(client.close())
            raise
        log.info("%s: %s", client.base_url, abilities.describe())
        if abilities.same_prompt is False:
            log.warning("%s: set model.openai.tokenizer to the served model's own", abilities.describe())
        if abilities.api == "chat":
            log.warning("%s reads the texts itself, so control tokens in them are sent with a space inside", name)
        return cls(name, _shortened(chat, abilities), client, abilities, server.close if server else lambda: None)

    async def _answer(self, request: Request, prompt: list[int], sampling: Sampling) -> Completion:
        path, body = self._body(request, prompt, sampling)
        try:
            completion = await self.client.post(path, body, lambda answer: self._completion(answer, prompt))
            _check_shape(request, completion, self.client.base_url)
            return completion
        except ServerRefusal as error:
            raise self._explained(error) from error
        except PolicyError as error:
            self.failure, self.closed = error, True  # another load asks the server again, or starts it again
            raise

    def _body(self, request: Request, prompt: list[int], sampling: Sampling) -> tuple[str, dict[str, Any]]:
        able = self.abilities
        drawn: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed,
        }
        if able.takes_extras:
            drawn |= {**extras(self.chat), "top_k": sampling.top_k}
        elif sampling.top_k:
            raise ConfigError(f"{self.client.base_url} does not know top_k: set it to 0 in the sampling settings")
        if request.shape is not None:
            drawn |= self._constrained(request.shape, prompt)
        if able.api == "completions":
            return "/completions", {"model": able.model, "prompt": prompt, **drawn}
        if able.takes_extras:
            drawn["chat_template_kwargs"] = {"enable_thinking": self.chat.thinking}
        return "/chat/completions", {**chat_body(able.model, request.messages), **drawn}

    def _constrained(self, shape: str, prompt: list[int]) -> dict[str, Any]:
        """vLLM's field for a regular expression. ConfigError for a server that knows no fields beyond the API's."""
        if not self.abilities.takes_extras:
            raise ConfigError(f"{self.client.base_url} cannot constrain answers: set extract.constrained to off")
        self.chat.check_unthinking([prompt])
        return {"structured_outputs": {"regex": shape}}

    def _completion(self, answer: Any, prompt: list[int]) -> Completion:
        """The completion in a response; raises the errors that `ApiClient.post` retries if a field is missing."""
        choice = answer["choices"][0]
        finish = choice["finish_reason"]
        if finish in (None, "error", "abort"):
            raise ValueError(f"finish_reason is {finish!r}")
        reason = StopReason.LENGTH if finish == "length" else StopReason.EOS
        ids = choice.get("token_ids")
        if ids is not None:
            read = choice.get("prompt_token_ids") or answer.get("prompt_token_ids") or prompt
            exact, read = tuple(map(int, ids)), tuple(map(int, read))
            if not all(0 <= token < 2**31 for token in (*exact, *read)):
                raise ValueError("a token id is out of range")
            return Completion(self.chat.text(exact), read, exact, reason, answer=self.chat.answer(read, exact))
        text = choice["text"] if "text" in choice else said_by(choice["message"])
        if not isinstance(text, str):
            raise TypeError(f"the response is a {type(text).__name__}, not text")
        text, apart = well_formed(text), _has_separate_thinking(choice)
        ids = tuple(self.chat.encode(text))
        answer = text if apart else self.chat.answer_in(prompt, text)
        return Completion(text, tuple(prompt), ids, reason, IdSource.RETOKENISED, answer)

    def _explained(self, error: ServerRefusal) -> PolicyError | ConfigError:
        if error.status in (400, 413, 422) and TOO_LONG.search(error.text):
            return PromptTooLongError({0: f"{error}: lower max_tokens, the knowledge cap or play.history_turns"})
        if error.status in (401, 403, 404):
            return ConfigError(f"{error}; model {self.abilities.model} was served and allowed when this run began")
        return PolicyError(str(error))

    def load_weights(self, folder: Path) -> None:
        """Switches to an adapter folder, which the server must be able to read; unloads the previous one.

        Raises:
            ConfigError: this is not an adapter, or the server does not load adapters.
            PolicyError: the server's response is unusable.
        """
        try:
            _, abilities = self._loop.run(_load_adapter(self.client, self.abilities, str(folder)))
            if self._taken not in (None, abilities.model):
                self._loop.run(_unload(self.client, str(self._taken)))
        except PolicyError:
            self.closed = True
            raise
        self.abilities, self._taken = abilities, abilities.model

    def pause(self) -> None:
        """No-op: a server keeps its memory."""

    def disconnect(self) -> None:
        """Closes the connections; a managed server goes on."""
        self.closed = True
        self._loop.run(self.client.close())

    def close(self) -> None:
        """Closes the connections and stops a managed server."""
        self.disconnect()
        self._on_close()


def _check_shape(request: Request, completion: Completion, server: str) -> None:
    """Raises ConfigError where an answer that ended does not match: servers ignore fields that they do not know."""
    ended = completion.stop_reason is StopReason.EOS
    if request.shape is not None and ended and not re.fullmatch(request.shape, completion.text):
        raise ConfigError(
            f"{server} does not constrain answers to a regular expression as vLLM does: set extract.constrained to off"
        )


def said_by(message: Any) -> Any:
    """The content of a message, and the tool calls that a server has parsed from it, one line of JSON each."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    lines = [call_line(ToolCall(name=call["name"], arguments=call["arguments"])) for call in calls]
    return "\n".join([*filter(None, [message["content"]]), *lines]) if lines else message["content"] or ""


def _has_separate_thinking(choice: Any) -> bool:
    """Whether the server returns the thinking in a separate field, so that the content is the answer."""
    message = choice.get("message") or {}
    return any(message.get(field) for field in ("reasoning_content", "reasoning"))


def _shortened(chat: Chat, abilities: Abilities) -> Chat:
    """The chat format with the server's maximum length if that is shorter."""
    if abilities.max_length is None or abilities.max_length >= chat.max_length:
        return chat
    return Chat(chat.tokenizer, chat.stops, chat.thinking, abilities.max_length, "the server's length")


async def _load_adapter(client: ApiClient, abilities: Abilities, path: str) -> tuple[str, Abilities]:
    """Loads an adapter folder on the server, which must be able to read it, under a name made of its digest."""
    source = resolve_model(path)
    refused = (
        f"{client.base_url} serves {abilities.model} and cannot serve {path}: use model.backend vllm, "
        "model.openai.managed, or a LoRA run (model.lora) with a server that loads adapters at run time"
    )
    if not isinstance(source, Path) or not is_adapter(source):
        raise ConfigError(refused)
    name = f"oel-{model_digest(path)}"
    try:
        await client.post_text("/load_lora_adapter", {"lora_name": name, "lora_path": str(source.resolve())})
    except ServerRefusal as error:
        if "already" not in error.text:
            raise ConfigError(f"{refused} (it says {error.status}: {error.text})") from error
    return checkpoint_name(path), Abilities(**{**vars(abilities), "model": name})


async def _unload(client: ApiClient, name: str) -> None:
    try:
        await client.post_text("/unload_lora_adapter", {"lora_name": name})
    except ServerRefusal as error:
        if error.status != 404:  # another process of this run was faster
            raise
