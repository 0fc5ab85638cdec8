"""Listening addresses of servers: the loopback interface unless `--expose` is given, and free ports."""

import ipaddress
import socket

import psutil

from oel_core.errors import ConfigError


def require_loopback(host: str, *, expose: bool) -> None:
    """Raises ConfigError for an address that other machines can reach, unless `expose` is set."""
    if expose or is_loopback(host):
        return
    raise ConfigError(
        f"--host {host} can be reached from other machines, and the servers have no authentication: anyone who "
        "reaches them can run flows here. Use 127.0.0.1 and an SSH tunnel, or say --expose to do it all the same"
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_free(host: str, port: int, service: str, option: str) -> None:
    """Raises ConfigError where `port` is in use; the message names the process and the option to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} for the {service} cannot be used ({error.strerror}): {_listener(port)}. "
                f"Stop that, or choose another port with {option}"
            ) from error


def _listener(port: int) -> str:
    """The process that listens on a port, if visible to this user."""
    try:
        sockets = psutil.net_connections(kind="tcp")
        pids = [one.pid for one in sockets if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN]
        pid = next(pid for pid in pids if pid is not None)
        return f"process {pid} listens there ({' '.join(psutil.Process(pid).cmdline())[:80]})"
    except (StopIteration, psutil.Error, OSError):
        return "another process listens there"
