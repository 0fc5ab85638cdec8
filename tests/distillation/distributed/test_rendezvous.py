"""Nodes of a distillation meet at an address, watch each other and agree on the cause of an end."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import ValidationError
from torch.distributed import TCPStore

from oel_core.config.run import DistillConfig
from oel_core.config.serving import affects_results
from oel_core.config.urls import host_and_port
from oel_core.distillation.distributed import peers as watching
from oel_core.distillation.distributed.failures import Failure, Kind
from oel_core.distillation.distributed.peers import Peers
from oel_core.distillation.distributed.rendezvous import (
    LOOPBACKS,
    FixedNodes,
    Invitation,
    admit,
    answers,
    bind,
    connect,
    enter,
    interface,
    serve,
    versions,
)
from oel_core.errors import ConfigError, DistillationError
from oel_core.runs.guardian import free_port


def invitation(address: str, *, nodes: int = 2, wait_s: float = 20.0, attempt: str = "a1") -> Invitation:
    return Invitation(
        attempt=attempt, rendezvous=address, nodes=nodes, processes=1, threads=1, wait_s=wait_s, versions=versions()
    )


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


def test_nodes_meet_and_know_each_other(address: str) -> None:
    store, given = serve(address), invitation(address, nodes=3)
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(enter, connect(address), given) for _ in range(2)]
        hosts = admit(store, given)
    assert sorted(other.result()[0] for other in others) == [1, 2]
    assert hosts == [socket.gethostname()] * 3
    with pytest.raises(DistillationError, match="the 3 nodes of this distillation are complete"):
        enter(connect(address), given)


def test_the_store_listens_on_its_address_alone(address: str) -> None:
    store = serve(address)
    assert (store.host, store.port) == host_and_port(address)
    assert answers(address)
    assert not answers(f"127.0.0.2:{store.port}")
    assert serve("127.0.0.1:0").port != 0


def test_the_interface_of_an_address_is_the_one_that_reaches_it() -> None:
    assert interface("127.0.0.1:0") in LOOPBACKS
    assert interface(f"127.0.0.1:{free_port()}") in LOOPBACKS
    assert interface("no-such-host.invalid:29400") is None


def test_a_node_that_does_not_come_is_waited_for_no_longer_than_said(address: str) -> None:
    with pytest.raises(DistillationError, match=f"1 of 2 nodes came to {address} within 0.3 s: start `oel join RUN`"):
        admit(serve(address), invitation(address, wait_s=0.3))


def test_a_node_of_another_attempt_is_refused(address: str) -> None:
    store = serve(address)
    store.set("attempt", "later")
    with pytest.raises(DistillationError, match=f"another distillation uses {address}"):
        enter(connect(address), invitation(address))


def test_a_run_that_goes_before_all_have_come(address: str) -> None:
    store = serve(address)
    store.set("attempt", "a1")
    with pytest.raises(DistillationError, match=r"did not become 2 within 0.3 s"):
        enter(connect(address), invitation(address, wait_s=0.3))


@pytest.mark.parametrize("address", ["192.0.2.1:29400", "no-such-host.invalid:29400"])
def test_an_address_of_another_machine_cannot_be_served(address: str) -> None:
    with pytest.raises(ConfigError, match=f"distill.rendezvous is {address}, where this machine cannot listen"):
        bind(address)


def test_a_port_in_use(address: str) -> None:
    with bind(address), pytest.raises(ConfigError, match=f"{address}, where this machine cannot listen"):
        bind(address)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:0", "host:65536", "a b:1", "http://h:1", "0.0.0.0:1", "[::]:1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValidationError, match="rendezvous"):
        DistillConfig(rendezvous=text)


def test_addresses() -> None:
    assert host_and_port("gpu-a.cluster:29400") == ("gpu-a.cluster", 29400)
    assert host_and_port("[fd00::1]:1") == ("fd00::1", 1)


def test_nodes_do_not_affect_results() -> None:
    names = [name for name in DistillConfig.model_fields if name.startswith(("nodes", "rendezvous", "processes"))]
    assert len(names) == 4
    assert not any(affects_results(f"distill.{name}") for name in names)


def test_the_agent_gets_the_store_and_fixed_numbers(address: str) -> None:
    store = serve(address)
    found = FixedNodes(store, 1, 3, "a1").next_rendezvous()
    assert (found.rank, found.world_size) == (1, 3)
    assert (found.bootstrap_store_info.master_addr, found.bootstrap_store_info.master_port) == host_and_port(address)


# ---- peers ----


@pytest.fixture
def pair(address: str, monkeypatch: pytest.MonkeyPatch) -> tuple[TCPStore, TCPStore]:
    monkeypatch.setattr(watching, "BEAT_S", 0.05)
    return serve(address), connect(address)


def until(found: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    assert found()


def test_both_nodes_name_the_same_cause(pair: tuple[TCPStore, TCPStore]) -> None:
    first, second = Peers(pair[0], 0, ["gpu-a", "gpu-b"]), Peers(pair[1], 1, ["gpu-a", "gpu-b"])
    until(lambda: not first.ended and not second.ended)
    broken = Failure(node=0, kind=Kind.EXIT, message="rank 0 exited")
    killed = Failure(node=1, kind=Kind.KILLED, message="rank 1 was killed")
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(first.verdict, broken)
        until(lambda: second.ended)
        assert (second.verdict(killed), ours.result()) == (killed, killed)
    first.close()
    second.close()


def test_a_silent_node_is_lost(pair: tuple[TCPStore, TCPStore], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Peers(pair[0], 0, ["gpu-a", "gpu-b"]), Peers(pair[1], 1, ["gpu-a", "gpu-b"])
    second.close()
    monkeypatch.setattr(watching, "LOST_S", 0.3)
    until(lambda: first.ended)
    found = first.verdict(Failure(node=0, kind=Kind.EXIT, message="its connection broke"))
    assert found.message.startswith("node 1 (gpu-b) is lost")
    first.close()


def test_without_the_store_node_0_is_lost(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BEAT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)):
        store = serve(address)
        second = Peers(connect(address), 1, ["gpu-a", "gpu-b"])
        del store  # closes the server
        until(lambda: second.ended)
        found = second.verdict(Failure(node=1, kind=Kind.STOPPED, message=""))
        assert found.message.startswith("node 0 (gpu-a) is lost")
        second.close()


def test_an_unreadable_report_is_left_out(pair: tuple[TCPStore, TCPStore], caplog: pytest.LogCaptureFixture) -> None:
    first = Peers(pair[0], 0, ["gpu-a", "gpu-b"])
    pair[1].set("end/1", "{}")
    until(lambda: "not readable" in caplog.text)
    assert not first.ended
    first.close()
