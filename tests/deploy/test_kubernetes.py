"""The manifests of Kubernetes: that they fit together, and what they name of kvs exists."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from kvs.config import load

from .containerfile import environment, stages, texts, words
from .files import DEPLOY, check_command, check_environment, check_settings_file

pytestmark = pytest.mark.one_build

MANIFESTS: Final = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
manifests = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)

SETTINGS_FILE: Final = "kvs.toml"
SECRET: Final = "/run/secrets/"  # noqa: S105  # a directory


def objects(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind in a manifest."""
    found = [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each["kind"] == kind]
    assert found, f"{path.name}: there is no {kind}"
    return found


def pods(path: Path) -> dict[str, Any]:
    """Return the specification of a manifest's pods."""
    (stateful,) = objects(path, "StatefulSet")
    pods: dict[str, Any] = stateful["spec"]["template"]["spec"]
    return pods


def container(path: Path) -> dict[str, Any]:
    """Return the one container of a manifest's pods."""
    (container,) = pods(path)["containers"]
    found: dict[str, Any] = container
    return found


def settings(path: Path) -> str:
    """Return the file of settings in a manifest."""
    (settings,) = objects(path, "ConfigMap")
    text: str = settings["data"][SETTINGS_FILE]
    return text


def variables(path: Path) -> dict[str, str]:
    """Return the variables that a server gets: those of the image, and those of the manifest that have values."""
    own = {each["name"]: each["value"] for each in container(path).get("env", []) if "value" in each}
    return environment(stages()[1]) | own


def mounts(path: Path) -> dict[str, dict[str, Any]]:
    """Return where the volumes of the pods are mounted; a claim has no source here."""
    sources = {each["name"]: each for each in pods(path)["volumes"]}
    return {each["mountPath"]: sources.get(each["name"], {}) for each in container(path)["volumeMounts"]}


@manifests
def test_what_they_name_of_kvs_exists(path: Path, tmp_path: Path) -> None:
    """Command, settings and variables, which a server takes together."""
    check_command(path.name, [*words(stages()[1], "ENTRYPOINT"), *container(path)["args"]])
    check_settings_file(path.name, settings(path), tmp_path)
    configuration = check_environment(path.name, variables(path), str(tmp_path / SETTINGS_FILE))
    assert (configuration.settings.storage == "etcd") == ("three" in path.name)


@manifests
def test_every_file_in_the_settings_is_mounted(path: Path, tmp_path: Path) -> None:
    """And secrets are secrets, which others cannot write."""
    (tmp_path / SETTINGS_FILE).write_text(settings(path), encoding="utf-8")
    configuration = load({"config": str(tmp_path / SETTINGS_FILE)}, variables(path))
    named = dict(_files(configuration.settings))
    named |= {name: str(given.value) for name, given in configuration.options.items() if name.endswith("_file")}
    assert {"password_file", "admin_token_file", "tls_key_file"} <= named.keys()
    for name, file in named.items():
        volume = mounts(path)[str(Path(file).parent)]
        if name != "tls_ca_file":
            assert file.startswith(SECRET), name
            assert volume["secret"]["defaultMode"] == 0o440, name
    place, name = os.path.split(variables(path)["KVS_CONFIG"])
    assert name == SETTINGS_FILE
    assert mounts(path)[place]["configMap"]["name"] == objects(path, "ConfigMap")[0]["metadata"]["name"]


def _files(settings: Any) -> Iterator[tuple[str, str]]:
    for name in type(settings).__struct_fields__:
        if name.endswith("_file") and getattr(settings, name):
            yield name, getattr(settings, name)


@manifests
def test_ports_and_probes(path: Path, tmp_path: Path) -> None:
    """Ports are those that the server listens on, and probes ask the admin port."""
    (tmp_path / SETTINGS_FILE).write_text(settings(path), encoding="utf-8")
    given = load({"config": str(tmp_path / SETTINGS_FILE)}, {}).settings
    ports = {each["name"]: each["containerPort"] for each in container(path)["ports"]}
    assert ports == {"kvs": given.port, "admin": given.admin_port}
    assert texts(stages()[1], "EXPOSE") == [str(given.port)]
    asked = {name: container(path)[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe")}
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez"}
    assert container(path)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin", "scheme": "HTTPS"}


@manifests
def test_labels_select_the_pods(path: Path) -> None:
    """Of all that selects any."""
    (stateful,) = objects(path, "StatefulSet")
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"] == labels
    services = objects(path, "Service")
    assert all(service["spec"]["selector"] == labels for service in services)
    assert stateful["spec"]["serviceName"] in {service["metadata"]["name"] for service in services}
    if stateful["spec"]["replicas"] > 1:
        (budget,) = objects(path, "PodDisruptionBudget")
        assert budget["spec"]["selector"]["matchLabels"] == labels


@manifests
def test_they_give_no_rights(path: Path) -> None:
    """Neither to the user, who is that of the image, nor over the files of the container."""
    security = pods(path)["securityContext"]
    assert security["runAsNonRoot"]
    assert texts(stages()[1], "USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    assert pods(path)["automountServiceAccountToken"] is False
    assert container(path)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def service_variables(service: str, ports: dict[str, int]) -> dict[str, str]:
    """Return the variables that Kubernetes sets for a Service in every container of its namespace."""
    name = service.upper().replace("-", "_")
    first, *_ = ports.values()
    found = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": str(first),
        f"{name}_PORT": f"tcp://10.0.0.1:{first}",
    }
    for port_name, port in ports.items():
        found[f"{name}_SERVICE_PORT_{port_name.upper()}"] = str(port)
        prefix = f"{name}_PORT_{port}_TCP"
        found |= {prefix: f"tcp://10.0.0.1:{port}", f"{prefix}_PROTO": "tcp", f"{prefix}_PORT": str(port)}
        found[f"{prefix}_ADDR"] = "10.0.0.1"
    return found


@manifests
def test_services_do_not_look_like_settings(path: Path) -> None:
    """None has a name that begins as settings do."""
    for service in objects(path, "Service"):
        ports = {each["name"]: each["port"] for each in service["spec"]["ports"]}
        found = service_variables(service["metadata"]["name"], ports)
        assert not [name for name in found if name.startswith("KVS_")]


@pytest.mark.parametrize("service", ["kvs", "kvs-storage", "kvs-admin"])
def test_a_service_that_does_is_skipped(service: str) -> None:
    """With a warning, where it has the name of a setting."""
    configuration = load({}, service_variables(service, {"kvs": 4000, "admin": 9400}))
    assert configuration.settings == load({}, {}).settings
    assert configuration.unknown_variables == []
    named = f"{service.upper().replace('-', '_')}_PORT"
    assert configuration.skipped_variables == ([named] if service in ("kvs", "kvs-admin") else [])
