"""The champion behind `vllm serve`, started as docs/operations.md shows it: MLflow says where it lies."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from mlflow.tracking import MlflowClient

from oel_core.config.run import ModelConfig
from oel_core.models.checkpoints import SEED_LM
from oel_core.models.loading import load_model
from oel_core.models.saving import save_model
from oel_core.policies.hf.policy import TransformersPolicy
from oel_core.policies.openai.managed_server import ServerProcess, serve_command
from oel_core.policies.vllm.settings import ENVIRONMENT
from oel_core.runs.guardian import free_port
from tests.policies.real_prompts import GREEDY, real_requests

pytestmark = pytest.mark.vllm

CONFIG = ModelConfig(device="cpu", max_length=1024)


def champion(folder: Path) -> tuple[str, str]:
    """A registry in which the seed model is champion: its address, and the model's."""
    tracking, checkpoint = f"sqlite:///{folder / 'mlflow.db'}", save_model(*load_model(SEED_LM, CONFIG), folder / "one")
    client = MlflowClient(tracking, tracking)
    client.create_registered_model("oel-lake")
    version = client.create_model_version("oel-lake", checkpoint.resolve().as_uri())
    client.set_registered_model_alias("oel-lake", "champion", version.version)
    return tracking, "models:/oel-lake@champion"


def test_the_champion_answers_as_it_does_in_transformers(tmp_path: Path) -> None:
    tracking, model = champion(tmp_path)
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", model]
    found = subprocess.run(
        command, env={**ENVIRONMENT, "MLFLOW_TRACKING_URI": tracking}, capture_output=True, text=True, check=True
    ).stdout.strip()
    port = free_port()
    small = ["--max-model-len", "1024", "--enforce-eager", "--kv-cache-memory-bytes", str(2**28)]
    serve = [*serve_command(found), "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "lake", *small]
    server = ServerProcess(serve, ENVIRONMENT, tmp_path / "serve.log")
    request = real_requests(1)[0]
    expected = TransformersPolicy.load(SEED_LM, CONFIG).generate([request], GREEDY)[0]
    asked = {
        "model": "lake",
        "messages": [message.model_dump() for message in request.messages],
        "temperature": 0,
        "max_tokens": GREEDY.max_tokens,
    }
    try:
        server.wait_until(f"http://127.0.0.1:{port}/health", 300)
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=asked, timeout=60, trust_env=False)
    finally:
        server.close()
    assert answer.is_success, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == expected.text
