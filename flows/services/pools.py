"""The work pools that deployments run in: processes on the machine of a worker, or Jobs of a Kubernetes cluster."""

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from flows.services.servers import HOME_OF_FLOWS, POOLS
from oel_core.config.yaml_text import read_yaml
from oel_core.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

KUBERNETES = "kubernetes"
JOB_TEMPLATE = HOME_OF_FLOWS / "deployments" / "kubernetes" / "job-template.yaml"
IMAGE_HOME = "/opt/oel"
"""Where the flows are in the image of deployments/containers/Dockerfile."""


def home_of_flows(pool: str) -> str:
    """The folder in which a flow run of the pool finds the flows."""
    return IMAGE_HOME if pool == KUBERNETES else str(HOME_OF_FLOWS)


def ensure_pool(client: "SyncPrefectClient", pool: str, image: str | None) -> None:
    """Creates one of the project's pools if it is missing; a named image becomes that of a Kubernetes pool that exists.

    What else was changed in the UI is kept. Pools of other names are the user's.

    Raises:
        ConfigError: an image for a pool of processes, none for a new Kubernetes pool, or a pool of another type.
    """
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound

    if image is not None and pool != KUBERNETES:
        raise ConfigError(f"--image is for --pool {KUBERNETES}: the workers of {pool} run flows as processes")
    if pool not in (*POOLS, KUBERNETES):
        return
    try:
        found = client.read_work_pool(pool)
    except ObjectNotFound:
        kind, template = (KUBERNETES, job_template(image)) if pool == KUBERNETES else ("process", {})
        limit = None if pool == KUBERNETES else 1
        made = WorkPoolCreate(name=pool, type=kind, base_job_template=template, concurrency_limit=limit)
        client.create_work_pool(made)
        return
    if pool == KUBERNETES and found.type != KUBERNETES:
        raise ConfigError(f"the pool {pool} has the type {found.type}: delete it, or rename it, in Prefect's UI")
    if image is not None:
        client.update_work_pool(pool, WorkPoolUpdate(base_job_template=with_image(found.base_job_template, image)))


def job_template(image: str | None) -> dict[str, Any]:
    """The job template of a new Kubernetes pool.

    Raises:
        ConfigError: no image is named.
    """
    if image is None:
        raise ConfigError(
            f"--pool {KUBERNETES} needs --image the first time: an image that was built from "
            "deployments/containers/Dockerfile and that the cluster can pull"
        )
    return with_image(read_yaml(JOB_TEMPLATE).mapping(), image)


def with_image(template: Mapping[str, Any], image: str) -> dict[str, Any]:
    """The template with another default image."""
    changed = deepcopy(dict(template))
    changed["variables"]["properties"].setdefault("image", {"type": "string", "title": "Image"})["default"] = image
    return changed
