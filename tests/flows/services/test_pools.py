"""Work pools of `oel deploy`: which are created, with what, and what of an existing one is kept."""

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.exceptions import ObjectNotFound

from flows.services.pools import IMAGE_HOME, KUBERNETES, ensure_pool, home_of_flows
from flows.services.servers import HOME_OF_FLOWS
from oel_core.errors import ConfigError


class Client:
    """The three calls about pools of Prefect's client."""

    def __init__(self) -> None:
        self.pools: dict[str, Any] = {}

    def read_work_pool(self, name: str) -> Any:
        if name not in self.pools:
            raise ObjectNotFound(ValueError(name))
        return self.pools[name]

    def create_work_pool(self, made: Any) -> None:
        self.pools[made.name] = made

    def update_work_pool(self, name: str, change: Any) -> None:
        self.pools[name].base_job_template = change.base_job_template


def image_of(pool: Any) -> str:
    return str(pool.base_job_template["variables"]["properties"]["image"]["default"])


def test_a_pool_of_processes_runs_one_flow_at_a_time() -> None:
    client: Any = Client()
    ensure_pool(client, "oel-gpu", None)
    assert (client.pools["oel-gpu"].type, client.pools["oel-gpu"].concurrency_limit) == ("process", 1)


def test_a_kubernetes_pool_has_the_job_template_and_the_image() -> None:
    client: Any = Client()
    ensure_pool(client, KUBERNETES, "oel:1")
    made = client.pools[KUBERNETES]
    assert (made.type, made.concurrency_limit, image_of(made)) == (KUBERNETES, None, "oel:1")
    pod = made.base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "{{ image }}"


def test_a_new_image_changes_nothing_else() -> None:
    client: Any = Client()
    ensure_pool(client, KUBERNETES, "oel:1")
    client.pools[KUBERNETES].base_job_template["variables"]["properties"]["memory"]["default"] = "64Gi"
    ensure_pool(client, KUBERNETES, None)
    assert image_of(client.pools[KUBERNETES]) == "oel:1"
    ensure_pool(client, KUBERNETES, "oel:2")
    assert image_of(client.pools[KUBERNETES]) == "oel:2"
    assert client.pools[KUBERNETES].base_job_template["variables"]["properties"]["memory"]["default"] == "64Gi"


def test_a_pool_of_another_name_is_left_to_its_owner() -> None:
    client: Any = Client()
    ensure_pool(client, "mine", None)
    assert client.pools == {}


@pytest.mark.parametrize(
    ("pool", "image", "message"), [("oel-cpu", "oel:1", "--image is for --pool"), (KUBERNETES, None, "needs --image")]
)
def test_pool_and_image_have_to_fit(pool: str, image: str | None, message: str) -> None:
    client: Any = Client()
    with pytest.raises(ConfigError, match=message):
        ensure_pool(client, pool, image)
    assert client.pools == {}


def test_a_pool_of_that_name_and_another_type_is_refused() -> None:
    client: Any = Client()
    client.pools[KUBERNETES] = SimpleNamespace(type="process", base_job_template={})
    with pytest.raises(ConfigError, match="has the type process"):
        ensure_pool(client, KUBERNETES, "oel:1")


def test_jobs_find_the_flows_in_the_image() -> None:
    assert home_of_flows(KUBERNETES) == IMAGE_HOME
    assert home_of_flows("oel-cpu") == str(HOME_OF_FLOWS)
