"""What has to hold of the objects that an overlay makes, beyond their schemas; each check raises AssertionError."""

import inspect
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from consumer import __version__
from consumer.fetch import addresses
from consumer.kafka.topics import create_topics
from consumer.service.run import _CLOSE_TIMEOUT_S
from consumer.settings import variable_of
from tests.kubernetes_objects import (
    NAME,
    Objects,
    env_of,
    labels_of,
    loaded,
    of_kind,
    ports_of,
    selected,
    selects,
    settings_of,
    workload,
)
from tests.kustomization import Object, containers, pod_of

ROOT = Path(__file__).resolve().parents[1]
#: What docs/how-to/deploy-kubernetes.md tells to make by hand.
SECRETS = {"consumer-secrets", "triton-admin"}
#: Settings that are passwords, or URLs with one.
SECRET_SETTINGS = tuple(variable_of(name) for name in ("redis.url", "triton.admin_key", "fetch.stores", "fetch.proxy"))
OURS = set(re.findall(r'web\.get\("(/\w+)"', (ROOT / "consumer/service/health.py").read_text()))
#: The HTTP endpoints of the KServe protocol that Triton serves.
TRITONS = {"/v2/health/live", "/v2/health/ready"}


def selectors_match_what_they_are_for(objects: Objects) -> None:
    for deployment in of_kind(objects, "Deployment").values():
        assert selects(deployment["spec"]["selector"], labels_of(deployment))
        for spread in pod_of(deployment).get("topologySpreadConstraints", []):
            assert selects(spread["labelSelector"], labels_of(deployment))
        for term in pod_of(deployment).get("affinity", {}).get("podAffinity", {}).values():
            assert all(selected(objects, each["labelSelector"]) for each in term)
    for service in of_kind(objects, "Service").values():
        assert len(selected(objects, {"matchLabels": service["spec"]["selector"]})) == 1
    for budget in of_kind(objects, "PodDisruptionBudget").values():
        assert len(selected(objects, budget["spec"]["selector"])) == 1
    for policy in of_kind(objects, "NetworkPolicy").values():
        assert selected(objects, policy["spec"]["podSelector"]), policy["metadata"]["name"]


def ports_that_are_named_exist(objects: Objects) -> None:
    for deployment in of_kind(objects, "Deployment").values():
        for container in containers(deployment):
            for probe in (value for name, value in container.items() if name.endswith("Probe")):
                assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    for service in of_kind(objects, "Service").values():
        (target,) = selected(objects, {"matchLabels": service["spec"]["selector"]})
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports_of(target)
    for policy in of_kind(objects, "NetworkPolicy").values():
        targets = selected(objects, policy["spec"]["podSelector"])
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= {name for made in targets for name in ports_of(made)}


def settings_exist(objects: Objects) -> None:
    for name in ("consumer", "operator"):
        _, container = workload(objects, name)
        settings = loaded(settings_of(objects, container))
        assert settings.triton.url == "triton:8001"
        assert settings.service.workers == 1
    assert {port["port"] for port in of_kind(objects, "Service")["triton"]["spec"]["ports"]} == {8001}
    _, consumer = workload(objects, "consumer")
    settings = loaded(settings_of(objects, consumer))
    assert str(settings.prepare.threads) == consumer["resources"]["requests"]["cpu"]
    assert [port["containerPort"] for port in consumer["ports"]] == [settings.health.port]


def probes_ask_for_what_is_served(objects: Objects) -> None:
    for name, served, live in (("consumer", OURS, "/live"), ("triton", TRITONS, "/v2/health/live")):
        _, container = workload(objects, name)
        paths = {name: value["httpGet"]["path"] for name, value in container.items() if name.endswith("Probe")}
        assert paths.keys() == {"startupProbe", "livenessProbe", "readinessProbe"}
        assert set(paths.values()) <= served
        assert paths["livenessProbe"] == live
        assert paths["readinessProbe"] != live


def what_is_mounted_or_referred_to_exists(objects: Objects) -> None:
    claims, maps = of_kind(objects, "PersistentVolumeClaim"), of_kind(objects, "ConfigMap")
    for deployment in of_kind(objects, "Deployment").values():
        volumes = {volume["name"]: volume for volume in pod_of(deployment)["volumes"]}
        mounted = {mount["name"] for each in containers(deployment) for mount in each["volumeMounts"]}
        assert mounted == volumes.keys()
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "models") in claims
            assert volume.get("configMap", {}).get("name", "install-models") in maps
            assert volume.get("secret", {}).get("secretName", "consumer-secrets") in SECRETS
        for container in containers(deployment):
            secrets = {mount["mountPath"] for mount in container["volumeMounts"] if "secret" in volumes[mount["name"]]}
            files = {
                name: Path(path) for name, path in settings_of(objects, container).items() if name.endswith("_FILE")
            }
            assert {str(path.parent) for path in files.values()} <= secrets, files
            for source in container.get("envFrom", []):
                assert source.get("configMapRef", {}).get("name", "consumer-settings") in maps
                assert source.keys() == {"configMapRef"}
            for entry in container.get("env", []):
                assert entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name", "triton-admin") in SECRETS


def a_pod_may_finish_what_it_does(objects: Objects) -> None:
    spec, container = workload(objects, "consumer")
    drain_s = loaded(settings_of(objects, container)).service.drain_timeout_s
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > drain_s + _CLOSE_TIMEOUT_S
    spec, container = workload(objects, "triton")
    (exit_s,) = re.findall(r"--exit-timeout-secs=(\d+)", " ".join(container["args"]))
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > int(exit_s) >= 30


def rollouts_stop_nothing(objects: Objects) -> None:
    spec, _ = workload(objects, "consumer")
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert of_kind(objects, "PodDisruptionBudget")["consumer"]["spec"]["maxUnavailable"] == 1
    # Two pods would wait for each other's volume.
    spec, _ = workload(objects, "triton")
    assert of_kind(objects, "PersistentVolumeClaim")["models"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["replicas"] == 1


def there_are_never_more_consumers_than_partitions(objects: Objects) -> None:
    partitions = inspect.signature(create_topics).parameters["partitions"].default
    (scaled,) = of_kind(objects, "ScaledObject").values()
    spec = scaled["spec"]
    target, container = workload(objects, spec["scaleTargetRef"]["name"])
    assert "replicas" not in target
    assert 1 < spec["minReplicaCount"] <= spec["maxReplicaCount"] <= partitions
    (trigger,) = (each["metadata"] for each in spec["triggers"])
    settings = settings_of(objects, container)
    assert {value for name, value in trigger.items() if name.endswith("FromEnv")} <= settings.keys()
    assert trigger["allowIdleConsumers"] == "false"
    assert trigger["limitToPartitionsWithLag"] == "true"
    assert trigger["offsetResetPolicy"] == loaded(settings).kafka.first_position


def containers_are_confined(objects: Objects) -> None:
    for deployment in of_kind(objects, "Deployment").values():
        pod = pod_of(deployment)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(deployment):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
    labels = of_kind(objects, "Namespace")["photo-tagger"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def no_secret_is_in_the_clear(objects: Objects) -> None:
    assert not of_kind(objects, "Secret")
    values = [(name, value) for made in of_kind(objects, "ConfigMap").values() for name, value in made["data"].items()]
    for deployment in of_kind(objects, "Deployment").values():
        values += [pair for container in containers(deployment) for pair in env_of(container).items()]
    for name, value in values:
        assert not name.startswith(SECRET_SETTINGS) or name.endswith("_FILE"), name
        assert not re.search(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|JAAS|_KEY$", name), name
        assert not re.search(r"://[^/\s]*@", value), name


def images_carry_the_version_of_the_project(objects: Objects) -> None:
    images = {each["image"] for made in of_kind(objects, "Deployment").values() for each in containers(made)}
    assert images == {f"photo-tagger/{name}:{__version__}" for name in ("consumer", "triton", "models")}


def triton_is_started_as_compose_does(objects: Objects) -> None:
    _, container = workload(objects, "triton")
    args = [re.sub(r"\$\((\w+)\)", lambda name: env_of(container)[name[1]], arg) for arg in container["args"]]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["triton"]["command"]
    gpu = "nvidia.com/gpu" in container["resources"]["limits"]
    changed = {
        "--model-config-name=cpu": "--model-config-name=gpu",
        "--allow-gpu-metrics=false": "--allow-gpu-metrics=true",
    }
    assert args == [changed.get(arg, arg) if gpu else arg for arg in compose]
    (configuration,) = (arg.partition("=")[2] for arg in args if arg.startswith("--model-config-name="))
    _, operator = workload(objects, "operator")
    assert loaded(settings_of(objects, operator)).triton.config_name == configuration
    for model in (arg.partition("=")[2] for arg in args if arg.startswith("--load-model=")):
        assert (ROOT / "triton_models" / model / "configs" / f"{configuration}.pbtxt").is_file()


def only_what_is_needed_can_be_reached(objects: Objects) -> None:
    policies = {name: made["spec"] for name, made in of_kind(objects, "NetworkPolicy").items()}
    assert policies["closed"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in policies.values())
    assert [rule["ports"] for rule in policies["consumer"]["ingress"]] == [[{"port": "health"}]]
    assert policies["triton"]["egress"] == []
    grpc, metrics = policies["triton"]["ingress"]
    assert [grpc["ports"], metrics["ports"]] == [[{"port": "grpc"}], [{"port": "metrics"}]]
    (peer,) = grpc["from"]
    callers = {NAME: {labels_of(made)[NAME] for made in selected(objects, peer["podSelector"])}}
    assert callers == {NAME: {"consumer", "operator"}}
    assert peer.keys() == {"podSelector"}, "a pod of another namespace"
    for rule in policies["consumer"]["egress"]:
        blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
        assert not blocks or rule["ports"] == [{"port": 443}]
        for block in blocks:
            refused = addresses._NEVER + addresses._REFUSED
            assert not [f"{network} ({kind})" for network, kind in refused if reaches(block, network)]


def brokers_names_and_triton_can_be_reached(objects: Objects) -> None:
    _, container = workload(objects, "consumer")
    host, _, port = settings_of(objects, container)["TAGGER_KAFKA__BOOTSTRAP_SERVERS"].partition(":")
    namespace = host.split(".")[1]
    egress = of_kind(objects, "NetworkPolicy")["consumer"]["spec"]["egress"]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    assert [rule for rule in egress if peer in rule["to"] and {"port": int(port)} in rule["ports"]]
    names = [rule for rule in egress if {"port": 53, "protocol": "UDP"} in rule["ports"]]
    assert names, "no name is resolved"
    (triton,) = (rule for rule in egress if any("podSelector" in peer and len(peer) == 1 for peer in rule["to"]))
    assert selected(objects, triton["to"][0]["podSelector"]) == [of_kind(objects, "Deployment")["triton"]]
    assert triton["ports"] == [{"port": 8001}]


def reaches(block: Object, network: Any) -> bool:
    """Whether any address of the network may be reached."""
    whole, holes = (
        ipaddress.ip_network(block["cidr"]),
        [ipaddress.ip_network(hole) for hole in block["except"]],
    )
    if whole.version != network.version or not whole.overlaps(network):
        return False
    return not any(network.subnet_of(hole) for hole in holes)


CHECKS: list[Callable[[Objects], None]] = [
    selectors_match_what_they_are_for,
    ports_that_are_named_exist,
    settings_exist,
    probes_ask_for_what_is_served,
    what_is_mounted_or_referred_to_exists,
    a_pod_may_finish_what_it_does,
    rollouts_stop_nothing,
    there_are_never_more_consumers_than_partitions,
    containers_are_confined,
    no_secret_is_in_the_clear,
    images_carry_the_version_of_the_project,
    triton_is_started_as_compose_does,
    only_what_is_needed_can_be_reached,
    brokers_names_and_triton_can_be_reached,
]
