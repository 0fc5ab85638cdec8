"""The temporary API: what happens when it does not come up."""

import pytest

from flows.local import start_temporary_server
from oel_core.errors import OelError


def test_an_api_that_does_not_start_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    def too_busy(self: SubprocessASGIServer) -> None:
        raise RuntimeError("Timed out.")

    monkeypatch.setattr(SubprocessASGIServer, "start", too_busy)
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(OelError, match="PREFECT_API_URL"):
        start_temporary_server()


def test_a_server_of_the_users_own_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(SubprocessASGIServer, "start", lambda self: pytest.fail("started a second server"))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:4200/api"}):
        start_temporary_server()
