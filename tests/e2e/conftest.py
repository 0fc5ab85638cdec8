"""One set of servers for all tests that need some: starting them takes half a minute."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.loop import short_config
from tests.e2e.operating import Services, copy_source, small_disk
from tests.e2e.sweep import leftovers, swept
from tests.fakes import tiny_model_folder

DISK_MB = 192


@contextmanager
def starting(services: Services) -> Iterator[Services]:
    """Brings them up and deploys. Whatever happens within the block, no process of theirs stays."""
    services.root.mkdir(exist_ok=True)
    with swept(services.root):
        services.remember_ports()
        try:
            services.up()
            services.oel("deploy")
            yield services
        finally:
            services.oel("down", code=None)
            left = leftovers(services.root)
        assert not left, f"`oel down` left processes {left}"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """On a file system of its own where this machine permits one, so that a test can fill it."""
    home = tmp_path_factory.mktemp("operated")
    copy_source(home, short_config(tiny_model_folder(tmp_path_factory.mktemp("model")), rounds=1))
    found = Services(home)
    found.root.mkdir()
    with small_disk(found.root, DISK_MB) as found.disk_can_fill, starting(found):
        yield found


@pytest.fixture
def services(served: Services) -> Services:
    """The same, started again where an earlier test has killed or ended something."""
    if not served.well():
        served.up()
    return served
