"""Access to the objects of an overlay: workloads, what selects them, and the settings of their containers."""

from tempfile import NamedTemporaryFile

import pytest

from consumer.settings import Settings, load
from tests.kustomization import Object, containers

NAME = "app.kubernetes.io/name"
Objects = list[Object]


def of_kind(objects: Objects, kind: str) -> dict[str, Object]:
    return {made["metadata"]["name"]: made for made in objects if made["kind"] == kind}


def workload(objects: Objects, name: str) -> tuple[Object, Object]:
    """The specification of a Deployment, and its main container."""
    spec = of_kind(objects, "Deployment")[name]["spec"]
    return spec, spec["template"]["spec"]["containers"][0]


def labels_of(deployment: Object) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"]["labels"]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    by_expression = all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
    )
    return by_expression and selector.get("matchLabels", {}).items() <= labels.items()


def selected(objects: Objects, selector: Object) -> list[Object]:
    return [made for made in of_kind(objects, "Deployment").values() if selects(selector, labels_of(made))]


def ports_of(deployment: Object) -> set[str]:
    return {port["name"] for container in containers(deployment) for port in container.get("ports", [])}


def env_of(container: Object) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}


def settings_of(objects: Objects, container: Object) -> dict[str, str]:
    """The variables of a container that are not secret."""
    maps = of_kind(objects, "ConfigMap")
    named = [source["configMapRef"]["name"] for source in container.get("envFrom", []) if "configMapRef" in source]
    return {name: value for each in named for name, value in maps[each]["data"].items()} | env_of(container)


def loaded(variables: dict[str, str]) -> Settings:
    """The settings that a pod would have; where a file of a Secret is named, another one stands in."""
    with pytest.MonkeyPatch.context() as environment, NamedTemporaryFile("w") as file:
        file.write("redis://redis:6379/0")
        file.flush()
        for name, value in variables.items():
            environment.setenv(name, file.name if name.endswith("_FILE") else value)
        return load()
