"""The meeting of the nodes of one distillation, at a TCP store that the run's machine serves at `distill.rendezvous`.

The store is torch's: unauthenticated, for a private network. Torch would listen on all interfaces; here the socket is
bound to the configured address only, so with the default it is not reachable from other machines.
"""

import socket
import time
from datetime import timedelta

import psutil
import torch
from torch.distributed import PrefixStore, Store, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from oel_core import __version__
from oel_core.config.urls import host_and_port
from oel_core.errors import ConfigError, DistillationError
from oel_core.types import Record

INVITATION = "nodes.json"
LOOPBACKS = ("lo", "lo0")
"""Names of the loopback interface on Linux and macOS."""
_POLL_S, _CONNECT_S = 0.2, 20.0
_ANY, _DISCARD = ":0", 9
"""End of an address with any free port; a port to which nothing is sent."""


class Invitation(Record):
    """What a node has to know to take part in one attempt of a distillation; written by the run's process."""

    attempt: str
    """Random, so that a node of an earlier attempt is recognised."""
    rendezvous: str
    nodes: int
    processes: int
    """On each node."""
    threads: int
    """Of each process."""
    wait_s: float
    versions: str


def versions() -> str:
    """The versions that all nodes must share."""
    return f"oel {__version__}, torch {torch.__version__}"


def interface(address: str) -> str | None:
    """The network interface through which this machine reaches an address; None if there is none.

    Gloo would take that of the machine's own name, which on many machines is loopback's.
    """
    try:
        family, *_, target = socket.getaddrinfo(_host(address), _DISCARD, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # chooses a route and sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    return next(
        (name for name, found in psutil.net_if_addrs().items() if own in (one.address.split("%")[0] for one in found)),
        None,
    )


def _host(address: str) -> str:
    return address.removesuffix(_ANY) if address.endswith(_ANY) else host_and_port(address)[0]


def bind(address: str) -> socket.socket:
    """A listening socket of this address alone.

    Raises:
        ConfigError: it is not an address of this machine, or the port is in use.
    """
    host, port = _host(address), 0 if address.endswith(_ANY) else host_and_port(address)[1]
    try:
        family, *_, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(target[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"distill.rendezvous is {address}, where this machine cannot listen ({error.strerror or error}): set it to "
            "an address of the run's machine and a free port"
        ) from error


def serve(address: str) -> TCPStore:
    """The store of the nodes, served by this process. Errors as `bind`."""
    listener = bind(address)
    host = listener.getsockname()[0]
    return TCPStore(
        host,
        listener.getsockname()[1],
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=_CONNECT_S),
        master_listen_fd=listener.detach(),
        use_libuv=True,
    )


def connect(address: str) -> TCPStore:
    """The store that another node serves. DistillationError where it does not answer."""
    host, port = host_and_port(address)
    try:
        return TCPStore(
            host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=_CONNECT_S), use_libuv=True
        )
    except RuntimeError as error:
        raise DistillationError(f"no connection to {address} within {_CONNECT_S:.0f} s") from error


def admit(store: Store, invitation: Invitation) -> list[str]:
    """On node 0: waits for the other nodes. Returns the host names by node.

    Raises:
        DistillationError: some have not come within `distill.nodes_wait_s`.
    """
    store.set("attempt", invitation.attempt)
    store.set("host/0", socket.gethostname())
    until = time.monotonic() + invitation.wait_s
    while (here := 1 + min(store.add("others", 0), invitation.nodes - 1)) < invitation.nodes:
        if time.monotonic() > until:
            raise DistillationError(
                f"{here} of {invitation.nodes} nodes came to {invitation.rendezvous} within {invitation.wait_s:g} s: "
                "start `oel join RUN` on the other machines and check that they can connect to this address; "
                "distill.nodes_wait_s is how long to wait"
            )
        time.sleep(_POLL_S)
    store.set("complete", "1")
    return _hosts(store, invitation.nodes)


def enter(store: Store, invitation: Invitation) -> tuple[int, list[str]]:
    """On another node: takes a place and waits until all nodes are there. Returns its number and the host names.

    Raises:
        DistillationError: the store is of another attempt, all places are taken, or the others do not come.
    """
    if store.get("attempt").decode() != invitation.attempt:
        raise DistillationError(f"another distillation uses {invitation.rendezvous}: give each run a port of its own")
    node = int(store.add("others", 1))
    if node >= invitation.nodes:
        raise DistillationError(f"the {invitation.nodes} nodes of this distillation are complete without this one")
    store.set(f"host/{node}", socket.gethostname())
    try:
        store.wait(["complete"], timedelta(seconds=invitation.wait_s))
    except RuntimeError as error:
        raise DistillationError(
            f"the nodes at {invitation.rendezvous} did not become {invitation.nodes} within {invitation.wait_s:g} s, "
            "or the run has ended"
        ) from error
    return node, _hosts(store, invitation.nodes)


def _hosts(store: Store, nodes: int) -> list[str]:
    return [store.get(f"host/{node}").decode(errors="replace") for node in range(nodes)]


def answers(address: str, timeout_s: float = 3.0) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection(host_and_port(address), timeout_s).close()
    except OSError:
        return False
    return True


class FixedNodes(RendezvousHandler):
    """The rendezvous of torch's elastic agent with nodes that have met already: numbers are fixed, none is replaced.

    Args:
        store: of all nodes, connected.
        node: number of this one.
        nodes: how many there are.
        attempt: id of the attempt.
    """

    def __init__(self, store: TCPStore, node: int, nodes: int, attempt: str) -> None:
        self._store, self._node, self._nodes, self._attempt = store, node, nodes, attempt

    def get_backend(self) -> str:
        return "oel"

    @property
    def use_agent_store(self) -> bool:
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        place = RendezvousStoreInfo(self._store.host, self._store.port)
        return RendezvousInfo(PrefixStore("agent", self._store), self._node, self._nodes, place)

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        """Nobody can come later anyway."""

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self._attempt

    def shutdown(self) -> bool:
        return True
