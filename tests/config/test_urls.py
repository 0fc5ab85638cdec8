"""Secrets in URLs: rejected in settings, and never displayed."""

import pytest

from flows.cli.app import call
from oel_core.config.run import load_config
from oel_core.config.urls import without_secrets
from oel_core.errors import ConfigError

SHOWN = {
    "http://me:pw@host/v1": "http://***@host/v1",
    "https://pw@host/v1": "https://***@host/v1",
    "http://me:p/w@host/v1": "http://***@host/v1",
    "http://me:p@w@host/v1": "http://***@host/v1",
    "HTTP://me:pw@host": "HTTP://***@host",
    "a http://me:pw@one b http://host": "a http://***@one b http://host",
    "http://host/v1?api_key=pw&n=1": "http://host/v1?api_key=***&n=1",
    "http://host/v1?n=1&Access-Token=pw": "http://host/v1?n=1&Access-Token=***",
    "postgresql://me:pw@db:5433/x?sslmode=require": "postgresql://me@db:5433/x?sslmode=require",
    "postgresql://db/x?user=me&password=pw": "postgresql://db/x?user=me&password=***",
    "sqlite:////a/b:c@d.db": "sqlite:////a/b:c@d.db",
}


@pytest.mark.parametrize("address", SHOWN)
def test_what_is_shown_has_no_secret(address: str) -> None:
    assert without_secrets(address) == SHOWN[address]


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hunter2@host/v1",
        "http://hunter2@host/v1",
        "http://me:hunter2/x@host/v1",
        "http://host/v1?api_key=hunter2",
        "http://host/v1#token=hunter2",
        "https://me:hunter2@[",
    ],
)
@pytest.mark.parametrize("field", ["model.openai.base_url", "model.openai.bas_url", "seed"])
def test_a_secret_in_an_address_is_never_repeated(address: str, field: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["config", "show", "quickstart", "--set", f"{field}={address}"]) == 2
    said = capsys.readouterr()
    assert field in said.err
    assert "hunter2" not in said.err + said.out
    assert field != "model.openai.base_url" or "use api_key_env" in said.err


@pytest.mark.parametrize("address", ["localhost:8000/v1", "http://", "http:///v1", "ftp://host/v1", "http://a:b/v1"])
def test_what_is_no_address_of_an_api_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"base_url: must be the address of an API"):
        load_config("quickstart", [f"model.openai.base_url={address}"])


def test_an_address_without_secrets_is_kept() -> None:
    config = load_config("quickstart", ["model.openai.base_url=http://127.0.0.1:8000/v1"])
    assert config.model.openai.base_url == "http://127.0.0.1:8000/v1"
