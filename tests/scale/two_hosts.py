"""Two hosts of a private network on this machine: network namespaces, joined by a virtual cable, with shared files."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

POSSIBLE = shutil.which("ip") is not None and os.geteuid() == 0
REASON = "namespaces need root and iproute2's ip"
NETWORK = "10.213.7"


@dataclass(frozen=True)
class Host:
    """One of the two."""

    name: str
    """Of its namespace."""
    number: int

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def cable(self) -> str:
        """Name of its end."""
        return f"{self.name}v"

    def command(self, *words: str) -> list[str]:
        """A command as it runs on this host."""
        return ["ip", "netns", "exec", self.name, *words]

    def plug(self, state: str) -> None:
        """Plugs its end of the cable: `up` or `down`."""
        _ip("-n", self.name, "link", "set", self.cable, state)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """The hosts, until the end of the block; what runs there then loses its network, not its life."""
    hosts = tuple(Host(f"oel{os.getpid()}{letter}", number) for number, letter in enumerate("ab", start=1))
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        _ip("link", "add", hosts[0].cable, "type", "veth", "peer", "name", hosts[1].cable)
        for host in hosts:
            _ip("link", "set", host.cable, "netns", host.name)
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.cable)
            _ip("-n", host.name, "link", "set", "lo", "up")
            host.plug("up")
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)
