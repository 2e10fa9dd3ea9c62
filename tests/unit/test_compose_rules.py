"""The rules of tests/compose_rules.py hold of every service, and each rule refuses a service that breaks it."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import compose_rules as rules

ROOT = Path(__file__).resolve().parents[2]
FILES = {"cpu": ("docker-compose.yml",), "gpu": ("docker-compose.yml", "deploy/compose/gpu.yml")}
STACKS = {name: rules.load(*files) for name, files in FILES.items()}
ALL = [pytest.param(stack, name, id=f"{stack}-{name}") for stack, made in STACKS.items() for name in made["services"]]


@pytest.mark.parametrize(("stack", "name"), ALL)
def test_every_rule_holds(stack: str, name: str) -> None:
    for rule in rules.RULES:
        rule(STACKS[stack]["services"][name], name)


def broken(name: str, **changes: object) -> tuple[dict[str, Any], str]:
    service = deepcopy(STACKS["cpu"]["services"][name])
    service.update(changes)
    return {key: value for key, value in service.items() if value is not None}, name


BROKEN: list[tuple[Callable[..., None], tuple[dict[str, Any], str]]] = [
    (rules.an_image_is_pinned, broken("grafana", image="grafana/grafana:latest")),
    (rules.an_image_is_pinned, broken("grafana", image="grafana/grafana")),
    (rules.ports_are_for_this_machine_only, broken("grafana", ports=["${GRAFANA_PORT:-3000}:3000"])),
    (rules.ports_are_for_this_machine_only, broken("redis", ports=["0.0.0.0:${REDIS_PORT:-6379}:6379"])),
    (rules.health_is_checked, broken("prometheus", healthcheck={"disable": True})),
    (rules.health_is_checked, broken("topics", healthcheck={"test": ["CMD", "true"]})),
    (rules.memory_is_limited, broken("kafka", mem_limit="none")),
    (
        rules.logs_are_rotated,
        broken("kafka", logging={"driver": "json-file", "options": {"max-size": "", "max-file": "3"}}),
    ),
    (
        rules.logs_are_rotated,
        broken("kafka", logging={"driver": "none", "options": {"max-size": "1m", "max-file": "3"}}),
    ),
    (rules.rights_are_dropped, broken("kafka", cap_drop=[])),
    (rules.rights_are_dropped, broken("kafka", security_opt=["seccomp:unconfined"])),
    (rules.rights_are_dropped, broken("redis-exporter", network_mode="host")),
    (rules.a_process_is_reaped, broken("triton", init=False)),
    (rules.a_restart_is_not_for_ever, broken("triton", restart="always")),
    (rules.its_files_are_read_only, broken("grafana", read_only=None)),
    (rules.it_is_not_root, broken("prometheus", user="0:0")),
    (rules.secrets_come_from_outside, broken("grafana", environment={"GF_SECURITY_ADMIN_PASSWORD": "admin"})),
    (rules.secrets_come_from_outside, broken("redis-exporter", environment={"REDIS_ADDR": "redis://me:secret@redis"})),
    (rules.folders_of_the_machine_stay_as_they_are, broken("grafana", volumes=["./deploy/grafana:/etc/grafana"])),
    (
        rules.folders_of_the_machine_stay_as_they_are,
        broken(
            "grafana",
            volumes=[{"type": "bind", "read_only": False, "bind": {"create_host_path": False}, "source": "."}],
        ),
    ),
    (rules.nothing_is_unset, broken("kafka", hostname="${KAFKA_HOST}")),
]


@pytest.mark.parametrize(("rule", "service"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_service_that_breaks_a_rule_is_refused(
    rule: Callable[..., None], service: tuple[dict[str, Any], str]
) -> None:
    with pytest.raises(AssertionError):
        rule(*service)


def test_no_rule_goes_without_a_service_that_breaks_it() -> None:
    assert {rule for rule, _ in BROKEN} == set(rules.RULES)


def test_every_exception_is_of_a_service_that_is_there() -> None:
    assert rules.WRITABLE.keys() | rules.OWN_USER.keys() <= STACKS["cpu"]["services"].keys()


@pytest.mark.parametrize("stack", STACKS)
def test_every_volume_is_declared_and_used(stack: str) -> None:
    mounts = [mount for service in STACKS[stack]["services"].values() for mount in service.get("volumes", [])]
    assert {mount.partition(":")[0] for mount in mounts if isinstance(mount, str)} == STACKS[stack]["volumes"].keys()


@pytest.mark.parametrize("stack", STACKS)
def test_a_service_needs_only_what_starts_with_it(stack: str) -> None:
    services = STACKS[stack]["services"]
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            assert set(services[needed].get("profiles", ())) <= set(service.get("profiles", ()))
            ended = how["condition"] == "service_completed_successfully"
            assert ended is rules.ends(services[needed])


def test_the_profiles_add_to_what_runs_without_them() -> None:
    services = STACKS["cpu"]["services"]
    profiles = {name: services[name]["profiles"] for name in services if "profiles" in services[name]}
    obs, ui = ["obs"], ["ui"]
    assert profiles == {
        "prometheus": obs, "grafana": obs, "redis-exporter": obs, "kafka-exporter": obs, "kafka-ui": ui, "web": ui,
    }  # fmt: skip


def test_on_a_gpu_the_engines_are_built_by_the_very_image_that_serves_them_before_it_serves() -> None:
    services = STACKS["gpu"]["services"]
    builder, triton = services["engine-builder"], services["triton"]
    assert builder["image"] == triton["image"]
    assert builder["build"] == triton["build"] == STACKS["cpu"]["services"]["triton"]["build"]
    assert triton["depends_on"] == {"engine-builder": {"condition": "service_completed_successfully"}}
    for service in (builder, triton):
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
    (engines,) = triton["volumes"]
    name, place, how = engines.split(":")
    assert f"{name}:/engines" in builder["volumes"]
    assert (place, how) == ("/models", "ro")
    assert builder["command"][-2:] == ["--engines", "/engines"]
    assert "install -d -o 1000 -g 1000 /engines" in (ROOT / "deploy/triton.Dockerfile").read_text()


def test_on_a_gpu_triton_and_the_tagger_use_the_configuration_gpu_and_differ_in_nothing_else() -> None:
    cpu, gpu = (set(STACKS[stack]["services"]["triton"]["command"]) for stack in ("cpu", "gpu"))
    assert gpu - cpu == {"--model-config-name=gpu"}
    assert {flag.partition("=")[0] for flag in cpu - gpu} == {
        "--model-config-name", "--allow-gpu-metrics", "--backend-config",
    }  # fmt: skip
    for service in ("consumer", "topics"):
        assert STACKS["gpu"]["services"][service]["environment"]["TAGGER_TRITON__CONFIG_NAME"] == "gpu"


def test_grafana_finds_what_is_provisioned() -> None:
    grafana = ROOT / "deploy/grafana"
    (mount,) = [mount for mount in STACKS["cpu"]["services"]["grafana"]["volumes"] if isinstance(mount, dict)]
    assert (mount["source"], mount["target"]) == ("./deploy/grafana", "/etc/grafana")
    (provider,) = yaml.safe_load((grafana / "provisioning/dashboards/files.yml").read_text())["providers"]
    inside = Path(provider["options"]["path"]).relative_to("/etc/grafana")
    assert {path.stem for path in (grafana / inside).glob("*.json")} >= {"overview"}
    ini = (grafana / "grafana.ini").read_text()
    home = re.search(r"^default_home_dashboard_path = /etc/grafana/(\S+)$", ini, re.MULTILINE)
    assert home is not None
    assert (grafana / home[1]).is_file()
    assert "disable_initial_admin_creation = true" in ini


def test_prometheus_asks_services_that_are_there() -> None:
    described = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {
        target for job in described["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    }
    others = {target for target in targets if not target.startswith("localhost:")}
    assert others == {"consumer:9400", "triton:8002", "redis-exporter:9121", "kafka-exporter:9308"}
    assert {target.partition(":")[0] for target in others} <= STACKS["cpu"]["services"].keys()
