"""`oel serve` as a process: real tokens of the embedded model, graceful end, and kills at any moment."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oel_core.config.run import ModelConfig
from oel_core.policies.text.chat import Chat
from oel_core.rollouts.episode import prompt_digest
from oel_core.runs.guardian import free_port
from tests.fakes import tiny_model_folder
from tests.serving.process import model_server, serve
from tests.serving.running import handed_over

pytestmark = pytest.mark.slow


def project(root: Path, *lines: str) -> Path:
    """A project as `oel init` leaves it; returns its inbox."""
    folder = root / "shop"
    folder.mkdir()
    inbox = folder / "inbox"
    (folder / "preset.yaml").write_text("\n".join([f"experience: {{inbox: {inbox}}}", *lines]) + "\n")
    return inbox


def test_the_embedded_model_answers_and_its_exact_tokens_are_recorded(tmp_path: Path) -> None:
    inbox = project(tmp_path, "play: {sampling: {max_tokens: 24}}")
    gateway = serve(tmp_path, "shop", "--port", "0")
    client = gateway.client()
    talk = [{"role": "system", "content": "You walk."}, {"role": "user", "content": "A board."}]
    whole = client.chat.completions.create(model="shop", messages=talk, seed=5)  # type: ignore[arg-type]
    parts = list(client.chat.completions.create(model="shop", messages=talk, seed=5, stream=True))  # type: ignore[arg-type]
    assert gateway.stop() == 0
    text = whole.choices[0].message.content
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    assert len([part for part in parts if part.choices[0].delta.content]) > 1, "it was not streamed"
    first, second = (episode.turns[0] for episode in handed_over(inbox))
    chat = Chat.load("seed-lm", ModelConfig())
    assert first.response_ids == second.response_ids
    assert chat.text(first.response_ids) == first.response == text
    assert len(first.response_ids) == whole.usage.completion_tokens
    assert first.prompt_ids_digest == prompt_digest(chat.prompt_ids(first.messages))
    assert whole.system_fingerprint.startswith("shop-base-")
    log = (tmp_path / "serve.log").read_text()
    assert gateway.token not in log + "".join(gateway.said)


def test_an_answer_that_runs_ends_when_the_gateway_is_told_to_stop(tmp_path: Path) -> None:
    inbox = project(tmp_path, f"model: {upstream(tmp_path, port := free_port())}")
    with model_server(port, delay_s=0.2):
        gateway = serve(tmp_path, "shop", "--port", "0")
        stream = gateway.client().chat.completions.create(
            model="shop", messages=[{"role": "user", "content": "hello there"}], stream=True
        )
        parts = [next(iter(stream))]
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(gateway.stop)
            parts += list(stream)
            assert ended.result() == 0
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "tiny: hello there"
    assert [episode.turns[0].response for episode in handed_over(inbox)] == ["tiny: hello there"]


def upstream(root: Path, port: int) -> str:
    model = tiny_model_folder(root)
    openai_ = f"{{base_url: 'http://127.0.0.1:{port}/v1', give_up_after_s: 60}}"
    return f"{{path: {model}, backend: openai, openai: {openai_}}}"
