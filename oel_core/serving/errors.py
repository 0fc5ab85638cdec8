"""Errors in the format of OpenAI's API: `{"error": {message, type, param, code}}` with a status."""

from collections.abc import Mapping
from typing import Any

from oel_core.errors import OelError
from oel_core.text.visible import visible_line

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(OelError, RuntimeError):
    """A request that is rejected or failed."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_s: float | None = None,
    ) -> None:
        """`retry_s`: value of Retry-After, seconds."""
        super().__init__(message)
        self.status, self.param, self.code, self.retry_s = status, param, code, retry_s

    def body(self) -> dict[str, Any]:
        """The response's body."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        message = visible_line(str(self), 2000)
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> Mapping[str, str]:
        """The response's headers."""
        found = {} if self.retry_s is None else {"Retry-After": str(max(1, round(self.retry_s)))}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
