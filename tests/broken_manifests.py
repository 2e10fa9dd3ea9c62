"""Copies of the manifests that are broken in one place, which the checks of `kubernetes_checks` must notice."""

from collections.abc import Callable
from typing import Any

from tests import kubernetes_checks as checks
from tests.kubernetes_objects import NAME
from tests.kustomization import Object

Check = Callable[[list[Object]], None]

#: One broken copy or more for each check: the object, the place in it, and what stands there instead.
POD = ("spec", "template", "spec")
MAIN = (*POD, "containers", 0)
BROKEN: list[tuple[Check, tuple[str, str], tuple[Any, ...], object]] = [
    (checks.selectors_match_what_they_are_for, ("Service", "triton"), ("spec", "selector"), {NAME: "tritons"}),
    (
        checks.selectors_match_what_they_are_for,
        ("PodDisruptionBudget", "consumer"),
        ("spec", "selector", "matchLabels"),
        {NAME: "consumers"},
    ),
    (
        checks.selectors_match_what_they_are_for,
        ("Deployment", "consumer"),
        ("spec", "template", "metadata", "labels"),
        {NAME: "tagger"},
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
        (*POD, "volumes", 1, "secret", "secretName"),
        "unheard-of",
    ),
    (
        checks.what_is_mounted_or_referred_to_exists,
        ("ConfigMap", "consumer-settings"),
        ("data", "TAGGER_REDIS__URL_FILE"),
        "/run/secrets/redis-url",
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
        checks.brokers_names_and_triton_can_be_reached,
        ("ConfigMap", "consumer-settings"),
        ("data", "TAGGER_KAFKA__BOOTSTRAP_SERVERS"),
        "broker.streaming.svc:9092",
    ),
    (
        checks.brokers_names_and_triton_can_be_reached,
        ("NetworkPolicy", "consumer"),
        ("spec", "egress", 0, "ports"),
        [{"port": 5353}],
    ),
    (
        checks.brokers_names_and_triton_can_be_reached,
        ("NetworkPolicy", "consumer"),
        ("spec", "egress", 3, "ports"),
        [{"port": 8000}],
    ),
    (
        checks.no_secret_is_in_the_clear,
        ("ConfigMap", "consumer-settings"),
        ("data", "TAGGER_KAFKA__EXTRA__SASL__PASSWORD"),
        "1234",
    ),
]
