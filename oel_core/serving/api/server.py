"""Runs the gateway with uvicorn until SIGTERM or SIGINT."""

import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from oel_core.config.serving import ServeConfig
from oel_core.errors import ServiceError

BACKLOG = 2048


def bind_socket(config: ServeConfig) -> socket.socket:
    """A socket bound to the configured address, not listening yet.

    Raises:
        ServiceError: the address is not local, or in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {config.host} port {config.port} ({error.strerror}): set serve.port or serve.host"
        ) from error
    return found


def run(app: FastAPI, config: ServeConfig, at: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT; then accepts no requests and waits `serve.drain_s` seconds for running ones."""
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(config.drain_s)),
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again after the shutdown
        signal.signal(number, _do_nothing)
    uvicorn.Server(settings).run(sockets=[at])


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """A signal's handler."""


def address(at: socket.socket) -> str:
    """The API's URL."""
    host, port = at.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
