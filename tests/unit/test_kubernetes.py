import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from textwrap import dedent
from typing import Any

import aiohttp
import jsonschema
import kubernetes_validate
import pytest
import yaml

from consumer.errors import SettingsError
from consumer.service.health import Readiness, serve_health
from tests import kubernetes_checks as checks
from tests.broken_manifests import BROKEN, Check
from tests.kubernetes_checks import CHECKS, OURS
from tests.kubernetes_objects import loaded, of_kind, settings_of, workload
from tests.kustomization import Object, built, identity

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = {overlay: built(KUBERNETES / "overlays" / overlay) for overlay in ("cpu", "gpu")}
KEDA = json.loads(Path(__file__).with_name("keda-scaled-object.json").read_text())
#: The oldest release that has all that is used, and the newest that the package knows.
RELEASES = ("1.31", "1.37")

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


def builds_what_triton_serves(objects: list[Object]) -> None:
    """Engines are built by the image, on the GPU and into the volume that serve, after the models were installed."""
    spec, triton = workload(objects, "triton")
    install, build = spec["template"]["spec"]["initContainers"]
    assert (install["name"], build["name"]) == ("install-models", "build-engines")
    assert build["image"] == triton["image"]
    assert build["resources"]["limits"]["nvidia.com/gpu"] == triton["resources"]["limits"]["nvidia.com/gpu"]
    mounts = [{each["mountPath"]: each for each in container["volumeMounts"]} for container in (build, triton, install)]
    options = dict(zip(build["command"][2::2], build["command"][3::2], strict=True))
    assert build["command"][:2] == ["photo-trainer", "engine"]
    assert options.keys() == {"--repository", "--engines"}
    assert mounts[0][options["--engines"]]["name"] == mounts[1]["/models"]["name"] == "engines"
    assert mounts[0][options["--repository"]]["name"] == mounts[2]["/repository"]["name"] == "models"
    assert mounts[0][options["--repository"]]["readOnly"] is True
    assert mounts[1]["/models"]["readOnly"] is True
    assert "--model-repository=/models" in triton["args"]


def test_the_gpu_overlay_builds_the_engines_that_it_serves() -> None:
    builds_what_triton_serves(OVERLAYS["gpu"])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("initContainers", 1, "image"), "photo-tagger/triton:0.0.9"),
        (("initContainers", 1, "resources", "limits"), {"memory": "8Gi", "nvidia.com/gpu": "2"}),
        (("initContainers", 1, "command", 5), "/repository"),
        (("initContainers", 1, "command", 2), "--models"),
        (("containers", 0, "volumeMounts", 0, "name"), "models"),
        (("initContainers", 0, "name"), "build-engines"),
    ],
)
def test_an_overlay_that_serves_other_engines_is_noticed(place: tuple[Any, ...], value: object) -> None:
    objects = deepcopy(OVERLAYS["gpu"])
    put(workload(objects, "triton")[0]["template"]["spec"], place, value)
    with pytest.raises(AssertionError):
        builds_what_triton_serves(objects)


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
    text = (ROOT / "docs/how-to/deploy-kubernetes.md").read_text()
    assert [name for name in checks.SECRETS if f"create secret generic {name}" not in text] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_makes_the_same_objects(overlay: str) -> None:
    assert kustomized(KUBERNETES / "overlays" / overlay) == {identity(made): made for made in OVERLAYS[overlay]}


def test_the_overlay_of_the_page_brings_its_registry_brokers_and_network(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/deploy-kubernetes.md").read_text()
    (overlay,) = re.findall(r"^ {3}```yaml\n(.*?)^ {3}```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "photo-tagger").symlink_to(ROOT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(dedent(overlay))
    objects = list(kustomized(tmp_path / "mine").values())
    for made in objects:
        fits(made)
    for name in ("consumer", "triton"):
        assert workload(objects, name)[1]["image"].startswith("registry.example.org/photo-tagger/")
    settings = loaded(settings_of(objects, workload(objects, "consumer")[1]))
    assert settings.kafka.bootstrap_servers == "broker.example.org:9093"
    assert settings.kafka.extra["security.protocol"] == "sasl_ssl"
    # Each file that a setting names is made a key of the Secret by the page.
    named = " ".join(settings_of(objects, workload(objects, "consumer")[1]).values())
    keys = set(re.findall(r"/run/secrets/photo-tagger/(\S+)", named))
    assert set(re.findall(r"--from-file=(\S+)", page)) == keys
    kafka = of_kind(objects, "NetworkPolicy")["consumer"]["spec"]["egress"][1]
    assert kafka == {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": [{"port": 9092}, {"port": 9093}]}


def kustomized(folder: Path) -> dict[tuple[str, str], Object]:
    """What kustomize itself makes, without the hashes behind names."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")
    text = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    for named in re.findall(r"^  name: ([a-z-]+-[a-z0-9]{10})$", text, re.MULTILINE):
        text = text.replace(named, named[:-11])
    return {identity(made): made for made in yaml.safe_load_all(text)}
