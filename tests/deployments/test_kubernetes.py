"""The Kubernetes manifests and the job template: valid by Kubernetes' schemas, and consistent with each other."""

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.services.pools import IMAGE_HOME, JOB_TEMPLATE
from tests.deployments.composed import COMPOSE, ROOT, composed, env_names
from tests.deployments.named import PINNED, check_command, unknown
from tests.deployments.test_containers import FILLED

FOLDER = ROOT / "deployments" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
VERSION = "1.33"
"""Of Kubernetes, whose schemas are used."""
Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    """All objects of the files that the kustomization lists."""
    paths = [FOLDER / name for name in KUSTOMIZATION["resources"]]
    return [one for path in paths for one in yaml.safe_load_all(path.read_text())]


def job() -> Manifest:
    """A Job as the pool's worker makes it from the template's defaults."""
    template = yaml.safe_load(JOB_TEMPLATE.read_text())
    values: dict[str, Any] = {
        name: field["default"] for name, field in template["variables"]["properties"].items() if "default" in field
    }
    values |= {"name": "lake", "image": "oel:0.1.0-cpu", "command": ["prefect", "flow-run", "execute"]}
    values["env"] = [{"name": "PREFECT_API_URL", "value": "http://prefect:4200/api"}]
    made: Manifest = _filled(template["job_configuration"]["job_manifest"], values)
    for place in ("parallelism", "completions"):  # which Prefect asks for here, and the cluster ignores
        assert made["spec"]["template"]["spec"].pop(place) == 1
    return made


def _filled(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", value)):
        return deepcopy(values[whole[1]])
    return re.sub(r"\{\{ (\w+) \}\}", lambda found: str(values[found[1]]), value) if isinstance(value, str) else value


ALL = [*manifests(), job()]


def pods(found: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name of the object and specification of its pods."""
    for one in found:
        if "template" in one.get("spec", {}):
            yield f"{one['kind']}/{one['metadata'].get('name', 'round')}", one["spec"]["template"]["spec"]


PODS = dict(pods(ALL))
OWN = {name: pod for name, pod in PODS.items() if not name.startswith("StatefulSet/")}


def identity(one: Manifest) -> str:
    return f"{one['kind']}/{one['metadata'].get('name', 'round')}"


@pytest.mark.parametrize("manifest", ALL, ids=identity)
def test_it_is_valid(manifest: Manifest) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install 'oel[dev]'")
    kubernetes_validate.validate(deepcopy(manifest), VERSION, strict=True)


def test_the_schemas_refuse_a_wrong_name() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install 'oel[dev]'")
    wrong = deepcopy(next(one for one in ALL if one["kind"] == "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="redinessProbe"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_every_file_is_used() -> None:
    others = {"kustomization.yaml", "job-template.yaml"}
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], *others}
    generated = [name for one in KUSTOMIZATION["configMapGenerator"] for name in one.get("files", ())]
    assert [name for name in generated if not (FOLDER / name).is_file()] == []


@pytest.mark.parametrize("name", PODS)
def test_images_are_pinned_and_limits_are_set(name: str) -> None:
    (image,) = KUSTOMIZATION["images"]
    for container in PODS[name]["containers"]:
        found = container["image"]
        assert PINNED.match(f"oel:{image['newTag']}" if found == image["name"] else found)
        assert "memory" in container["resources"]["limits"]
        assert "memory" in container["resources"]["requests"]


def test_images_are_those_of_the_compose_file() -> None:
    theirs = {one.image for one in composed(FILLED).values()}
    ours = {container["image"] for pod in PODS.values() for container in pod["containers"]}
    assert {name for name in ours if name.partition(":")[0] != "oel"} == {
        name for name in theirs if name.partition(":")[0] != "oel"
    }
    assert COMPOSE.is_file()


@pytest.mark.parametrize("name", OWN)
def test_pods_have_no_rights(name: str) -> None:
    assert OWN[name]["securityContext"]["runAsNonRoot"]
    assert OWN[name]["enableServiceLinks"] is False, "a Service named prefect sets PREFECT_PORT"
    assert OWN[name].get("automountServiceAccountToken") is False or name == "Deployment/worker"
    for container in OWN[name]["containers"]:
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


@pytest.mark.parametrize("name", PODS)
def test_commands_and_probes_exist(name: str) -> None:
    for container in PODS[name]["containers"]:
        if name != "Job/round" and "command" in container:
            check_command(container["command"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container.get(probe, {}):
                check_command(container[probe]["exec"]["command"])
        assert name == "Job/round" or {"readinessProbe", "livenessProbe"} & set(container)


@pytest.mark.parametrize("name", OWN)
def test_environment_variables_exist(name: str) -> None:
    (settings,) = [one for one in KUSTOMIZATION["configMapGenerator"] if one["name"] == "oel-settings"]
    common = [literal.partition("=")[0] for literal in settings["literals"]]
    assert f"OEL_HOME={IMAGE_HOME}" in settings["literals"]
    for container in OWN[name]["containers"]:
        named = {word.partition("token_env=")[2] for word in container.get("command", ()) if "token_env=" in word}
        own = [entry["name"] for entry in container.get("env", ()) if "INTEGRATIONS" not in entry["name"]]
        assert unknown([*own, *common], named) == []


def secret_keys() -> Iterator[tuple[str, str]]:
    for pod in PODS.values():
        for entry in (entry for container in pod["containers"] for entry in container.get("env", ())):
            if "secretKeyRef" in entry.get("valueFrom", {}):
                reference = entry["valueFrom"]["secretKeyRef"]
                yield reference["name"], reference["key"]


def test_secrets_are_references_to_what_the_example_lists() -> None:
    example = FOLDER / "example.env"
    assert {key for name, key in secret_keys() if name == "oel-secrets"} == set(env_names(example))
    assert {name for name, _ in secret_keys()} == {"oel-secrets"}
    assert [line for line in example.read_text().splitlines() if re.fullmatch(r"\w+=.+", line)] == []
    assert [one for one in ALL if one["kind"] == "Secret"] == []
    for pod in PODS.values():
        for entry in (entry for container in pod["containers"] for entry in container.get("env", ())):
            if re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", entry["name"]):
                assert "value" not in entry, entry["name"]


def test_what_is_mounted_exists() -> None:
    claims = {one["metadata"]["name"] for one in ALL if one["kind"] == "PersistentVolumeClaim"}
    maps = {one["name"] for one in KUSTOMIZATION["configMapGenerator"]}
    for name, pod in PODS.items():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "runs") in claims
            assert volume.get("configMap", {}).get("name", "garage") in maps
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted - set(volumes) <= {"data"}, name
        assert {
            one["configMapRef"]["name"]
            for container in pod["containers"]
            for one in container.get("envFrom", ())
            if "configMapRef" in one
        } <= maps


def test_services_lead_to_pods_and_nothing_is_open_to_the_world() -> None:
    labels = [
        one["spec"]["template"]["metadata"].get("labels", {}) for one in ALL[:-1] if "template" in one.get("spec", {})
    ]
    services = [one for one in ALL if one["kind"] == "Service"]
    assert len(services) == 5
    for service in services:
        assert service["spec"]["selector"] in labels
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    policies = [one for one in ALL if one["kind"] == "NetworkPolicy"]
    assert any(one["spec"]["podSelector"] == {} for one in policies)
    assert [one for one in ALL if one["kind"] == "Ingress"] == []


def test_accounts_of_pods_exist_and_jobs_have_no_rights_in_the_cluster() -> None:
    accounts = {one["metadata"]["name"] for one in ALL if one["kind"] == "ServiceAccount"}
    assert {pod["serviceAccountName"] for pod in PODS.values() if "serviceAccountName" in pod} == accounts
    (binding,) = [one for one in ALL if one["kind"] == "RoleBinding"]
    assert [subject["name"] for subject in binding["subjects"]] == ["oel-worker"]
    assert {one["kind"] for one in ALL} & {"ClusterRole", "ClusterRoleBinding"} == set()


def test_prefect_accepts_the_template() -> None:
    """By the worker's own configuration class, with the values of a flow run."""
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="pip install 'oel[kubernetes]'")
    template = yaml.safe_load(JOB_TEMPLATE.read_text())
    configuration = worker.KubernetesWorkerJobConfiguration
    fields = set(configuration.model_fields)
    assert set(template["job_configuration"]) <= fields
    manifest = job()
    manifest["spec"]["template"]["spec"] |= {"parallelism": 1, "completions": 1}
    made = configuration(namespace="oel", job_manifest=manifest, env={}, command="prefect flow-run execute")
    assert made.job_manifest["spec"]["template"]["spec"]["serviceAccountName"] == "oel-round"


def test_placeholders_of_the_template_are_its_variables() -> None:
    template = yaml.safe_load(JOB_TEMPLATE.read_text())
    used = set(re.findall(r"\{\{ (\w+) \}\}", yaml.safe_dump(template["job_configuration"], width=1000)))
    assert used == set(template["variables"]["properties"])


def test_the_folders_are_ordered() -> None:
    assert {path.name for path in Path(ROOT / "deployments").iterdir() if path.name != "__pycache__"} == {
        "__init__.py",
        "prefect.yaml",
        "containers",
        "kubernetes",
    }
