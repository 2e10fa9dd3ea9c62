"""A reader of our kustomizations: just the parts of them that deploy/kubernetes uses; anything else is an error.

A test compares it with `kubectl kustomize` where that is installed. One thing is left out: the hash behind the names of
generated ConfigMaps.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

_KNOWN = {"apiVersion", "kind", "namespace", "resources", "labels", "images", "configMapGenerator", "patches"}
#: What tells the entries of a list apart in a strategic merge; other lists are replaced.
_MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
_CLUSTER_WIDE = {"Namespace"}


def built(folder: Path) -> list[Object]:
    """The objects that a kustomization makes."""
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert wanted.keys() <= _KNOWN, f"{folder}: this reader does not know {wanted.keys() - _KNOWN}"
    objects = [made for name in wanted["resources"] for made in _resource(folder / name)]
    objects += [_config_map(folder, generator) for generator in wanted.get("configMapGenerator", [])]
    for patch in wanted.get("patches", []):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        (target,) = (made for made in objects if identity(made) == identity(change))
        _merge(target, change)
    for made in objects:
        _label(made, wanted.get("labels", []))
        if "namespace" in wanted and made["kind"] not in _CLUSTER_WIDE:
            made["metadata"]["namespace"] = wanted["namespace"]
        for container in containers(made):
            for image in wanted.get("images", []):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['name']}:{image['newTag']}"
    return objects


def identity(made: Object) -> tuple[str, str]:
    return made["kind"], made["metadata"]["name"]


def pod_of(made: Object) -> Object:
    """The specification of a workload's pods; an empty one of any other object."""
    return made["spec"]["template"]["spec"] if made["kind"] == "Deployment" else {}


def containers(made: Object) -> list[Object]:
    return [*pod_of(made).get("initContainers", []), *pod_of(made).get("containers", [])]


def _resource(path: Path) -> Iterator[Object]:
    if path.is_dir():
        yield from built(path)
    else:
        yield from yaml.safe_load_all(path.read_text())


def _config_map(folder: Path, generator: Object) -> Object:
    data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
    data |= {name: (folder / name).read_text() for name in generator.get("files", [])}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _label(made: Object, labels: list[Object]) -> None:
    for label in labels:
        made["metadata"].setdefault("labels", {}).update(label["pairs"])
        if label.get("includeTemplates") and pod_of(made):
            made["spec"]["template"]["metadata"]["labels"].update(label["pairs"])


def _merge(base: Object, change: Object) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif name in _MERGED_BY and name in base:
            _merge_entries(base[name], value, _MERGED_BY[name])
        else:
            base[name] = value


def _merge_entries(entries: list[Object], changes: list[Object], key: str) -> None:
    """What is changed stands first then, as kustomize has it."""
    there = {entry[key]: entry for entry in entries}
    changed = []
    for change in changes:
        entry = there.pop(change[key], {})
        _merge(entry, change)
        changed.append(entry)
    entries[:] = [*changed, *there.values()]
