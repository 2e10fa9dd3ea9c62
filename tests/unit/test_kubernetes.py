import json
import re
import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import kubernetes_validate
import pytest
import yaml

from consumer.errors import SettingsError
from consumer.service.health import Readiness, serve_health
from tests import kubernetes_checks as checks
from tests.kubernetes_checks import CHECKS, OURS, of_kind, workload
from tests.kustomization import Object, built, identity

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = {overlay: built(KUBERNETES / "overlays" / overlay) for overlay in ("cpu", "gpu")}
KEDA = json.loads(Path(__file__).with_name("keda-scaled-object.json").read_text())
#: The oldest release that has all that is used, and the newest that the package knows.
RELEASES = ("1.31", "1.37")

Check = Callable[[list[Object]], None]
overlays = pytest.mark.parametrize("objects", OVERLAYS.values(), ids=OVERLAYS)


@pytest.mark.parametrize("release", RELEASES)
@overlays
def test_every_object_fits_the_schema_of_its_kind(objects: list[Object], release: str) -> None:
    for made in objects:
        fits(made, release)


def fits(made: Object, release: str = RELEASES[0]) -> None:
    if made["kind"] == "ScaledObject":
        jsonschema.validate(made, KEDA)
    else:
        kubernetes_validate.validate(made, release, strict=True)


@pytest.mark.parametrize(
    ("kind", "name", "place", "value"),
    [
        ("Deployment", "consumer", ("spec", "template", "spec", "securityContext", "runAsNonroot"), True),
        ("Deployment", "triton", ("spec", "template", "spec", "terminationGracePeriodSeconds"), "40s"),
        ("PodDisruptionBudget", "consumer", ("spec", "maxUnavailble"), 1),
        ("NetworkPolicy", "consumer", ("spec", "egres"), []),
        ("ConfigMap", "consumer-settings", ("data", "TAGGER_SERVICE__WORKERS"), 1),
        ("ScaledObject", "consumer", ("spec", "maxReplicas"), 4),
        ("ScaledObject", "consumer", ("spec", "triggers", 0, "metadata", "allowIdleConsumers"), False),
    ],
)
def test_what_the_api_would_refuse_is_refused(kind: str, name: str, place: tuple[Any, ...], value: object) -> None:
    broken = deepcopy(of_kind(OVERLAYS["cpu"], kind)[name])
    put(broken, place, value)
    with pytest.raises(jsonschema.ValidationError):
        fits(broken)


def put(made: Any, place: tuple[Any, ...], value: object) -> None:
    for step in place[:-1]:
        made = made[step]
    made[place[-1]] = value


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@overlays
def test_it_holds_that(objects: list[Object], check: Check) -> None:
    check(objects)


#: One broken copy or more for each check: the object, the place in it, and what stands there instead.
POD = ("spec", "template", "spec")
MAIN = (*POD, "containers", 0)
BROKEN: list[tuple[Check, tuple[str, str], tuple[Any, ...], object]] = [
    (checks.selectors_match_what_they_are_for, ("Service", "triton"), ("spec", "selector"), {checks.NAME: "tritons"}),
    (
        checks.selectors_match_what_they_are_for,
        ("PodDisruptionBudget", "consumer"),
        ("spec", "selector", "matchLabels"),
        {checks.NAME: "consumers"},
    ),
    (
        checks.selectors_match_what_they_are_for,
        ("Deployment", "consumer"),
        ("spec", "template", "metadata", "labels"),
        {checks.NAME: "tagger"},
    ),
    (
        checks.ports_that_are_named_exist,
        ("Deployment", "consumer"),
        (*MAIN, "readinessProbe", "httpGet", "port"),
        "http",
    ),
    (checks.ports_that_are_named_exist, ("Service", "triton"), ("spec", "ports", 0, "targetPort"), "rpc"),
    (
        checks.ports_that_are_named_exist,
        ("NetworkPolicy", "triton"),
        ("spec", "ingress", 0, "ports"),
        [{"port": "rpc"}],
    ),
    (checks.settings_exist, ("ConfigMap", "consumer-settings"), ("data", "TAGGER_KAFKA__GROUP"), "photo-tagger"),
    (checks.settings_exist, ("ConfigMap", "consumer-settings"), ("data", "TAGGER_SERVICE__WORKERS"), "4"),
    (checks.settings_exist, ("Deployment", "consumer"), (*MAIN, "resources", "requests", "cpu"), "4"),
    (checks.settings_exist, ("Service", "triton"), ("spec", "ports", 0, "port"), 8000),
    (
        checks.probes_ask_for_what_is_served,
        ("Deployment", "consumer"),
        (*MAIN, "readinessProbe", "httpGet", "path"),
        "/readyz",
    ),
    (
        checks.probes_ask_for_what_is_served,
        ("Deployment", "consumer"),
        (*MAIN, "livenessProbe", "httpGet", "path"),
        "/ready",
    ),
    (
        checks.what_is_mounted_or_referred_to_exists,
        ("Deployment", "triton"),
        (*MAIN, "volumeMounts", 0, "name"),
        "model",
    ),
    (
        checks.what_is_mounted_or_referred_to_exists,
        ("Deployment", "triton"),
        (*POD, "volumes", 0, "persistentVolumeClaim", "claimName"),
        "model-store",
    ),
    (
        checks.what_is_mounted_or_referred_to_exists,
        ("Deployment", "consumer"),
        (*MAIN, "envFrom", 1, "secretRef", "name"),
        "unheard-of",
    ),
    (checks.a_pod_may_finish_what_it_does, ("Deployment", "consumer"), (*POD, "terminationGracePeriodSeconds"), 20),
    (
        checks.a_pod_may_finish_what_it_does,
        ("ConfigMap", "consumer-settings"),
        ("data", "TAGGER_SERVICE__DRAIN_TIMEOUT_S"),
        "25",
    ),
    (checks.a_pod_may_finish_what_it_does, ("Deployment", "triton"), (*POD, "terminationGracePeriodSeconds"), 30),
    (checks.rollouts_stop_nothing, ("Deployment", "consumer"), ("spec", "strategy", "rollingUpdate"), {"maxSurge": 1}),
    (checks.rollouts_stop_nothing, ("Deployment", "triton"), ("spec", "strategy"), {"type": "RollingUpdate"}),
    (
        checks.there_are_never_more_consumers_than_partitions,
        ("ScaledObject", "consumer"),
        ("spec", "maxReplicaCount"),
        5,
    ),
    (checks.there_are_never_more_consumers_than_partitions, ("Deployment", "consumer"), ("spec", "replicas"), 2),
    (
        checks.there_are_never_more_consumers_than_partitions,
        ("ScaledObject", "consumer"),
        ("spec", "triggers", 0, "metadata", "topicFromEnv"),
        "TAGGER_TOPIC",
    ),
    (
        checks.containers_are_confined,
        ("Deployment", "triton"),
        (*POD, "initContainers", 0, "securityContext", "capabilities"),
        {},
    ),
    (checks.containers_are_confined, ("Deployment", "operator"), (*POD, "securityContext", "runAsNonRoot"), False),
    (checks.containers_are_confined, ("Deployment", "consumer"), (*MAIN, "resources", "limits"), {}),
    (
        checks.no_secret_is_in_the_clear,
        ("ConfigMap", "consumer-settings"),
        ("data", "TAGGER_REDIS__URL"),
        "redis://redis",
    ),
    (
        checks.no_secret_is_in_the_clear,
        ("Deployment", "triton"),
        (*MAIN, "env", 2),
        {"name": "TRITON_ADMIN_KEY", "value": "1234"},
    ),
    (checks.no_secret_is_in_the_clear, ("Namespace", "photo-tagger"), ("kind",), "Secret"),
    (
        checks.images_carry_the_version_of_the_project,
        ("Deployment", "consumer"),
        (*MAIN, "image"),
        "photo-tagger/consumer:latest",
    ),
    (
        checks.triton_is_started_as_compose_does,
        ("Deployment", "triton"),
        (*MAIN, "args", 5),
        "--model-control-mode=none",
    ),
    (
        checks.triton_is_started_as_compose_does,
        ("Deployment", "operator"),
        (*MAIN, "env", 1, "value"),
        "gpu",
    ),
    (
        checks.only_what_is_needed_can_be_reached,
        ("NetworkPolicy", "consumer"),
        ("spec", "egress", 4, "to", 0, "ipBlock", "except"),
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
    ),
    (
        checks.only_what_is_needed_can_be_reached,
        ("NetworkPolicy", "consumer"),
        ("spec", "egress", 4, "to", 1, "ipBlock", "cidr"),
        "::/0",
    ),
    (
        checks.only_what_is_needed_can_be_reached,
        ("NetworkPolicy", "triton"),
        ("spec", "ingress", 0, "from"),
        [{"podSelector": {}}],
    ),
    (checks.only_what_is_needed_can_be_reached, ("NetworkPolicy", "triton"), ("spec", "egress"), [{}]),
    (checks.only_what_is_needed_can_be_reached, ("NetworkPolicy", "closed"), ("spec", "policyTypes"), ["Ingress"]),
    (
        checks.brokers_can_be_reached,
        ("ConfigMap", "consumer-settings"),
        ("data", "TAGGER_KAFKA__BOOTSTRAP_SERVERS"),
        "broker.streaming.svc:9092",
    ),
    (checks.brokers_can_be_reached, ("NetworkPolicy", "consumer"), ("spec", "egress", 0, "ports"), [{"port": 5353}]),
]


@pytest.mark.parametrize(("check", "broken", "place", "value"), BROKEN)
def test_a_broken_copy_is_noticed(check: Check, broken: tuple[str, str], place: tuple[Any, ...], value: object) -> None:
    objects = deepcopy(OVERLAYS["cpu"])
    put(next(made for made in objects if identity(made) == broken), place, value)
    with pytest.raises((AssertionError, SettingsError)):
        check(objects)


def test_each_check_has_a_broken_copy() -> None:
    assert {check for check, *_ in BROKEN} == set(CHECKS)


def test_only_the_gpu_overlay_asks_for_a_gpu() -> None:
    limits = {name: workload(objects, "triton")[1]["resources"]["limits"] for name, objects in OVERLAYS.items()}
    assert "nvidia.com/gpu" not in limits["cpu"]
    assert limits["gpu"]["nvidia.com/gpu"] == "1"


async def test_the_service_answers_on_the_paths_of_its_probes() -> None:
    async def readiness() -> Readiness:
        return Readiness([])

    async def metrics() -> bytes:
        return b""

    served = serve_health("127.0.0.1", 0, live=lambda: True, readiness=readiness, metrics=metrics)
    async with served as port, aiohttp.ClientSession() as client:
        for path in OURS:
            async with client.get(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status == 200


def test_the_secrets_that_are_referred_to_are_told_of() -> None:
    text = (ROOT / "docs/kubernetes.md").read_text()
    assert [name for name in checks.SECRETS if f"create secret generic {name}" not in text] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_makes_the_same_objects(overlay: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")
    command = [kubectl, "kustomize", KUBERNETES / "overlays" / overlay]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for named in re.findall(r"^  name: ([a-z-]+-[a-z0-9]{10})$", text, re.MULTILINE):
        text = text.replace(named, named[:-11])
    expected = {identity(made): made for made in yaml.safe_load_all(text)}
    assert {identity(made): made for made in OVERLAYS[overlay]} == expected
