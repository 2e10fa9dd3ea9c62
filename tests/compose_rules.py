"""What has to hold of every service of docker-compose.yml, in all profiles and on a GPU; each raises AssertionError."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
Services = dict[str, dict[str, Any]]

#: They write beside their volumes, and why that is so.
WRITABLE = {"kafka": "its image writes its properties and logs below /opt/kafka at the start"}
#: Run by the user of their image, which is not root.
OWN_USER = {"kafka": "appuser", "kafka-ui": "kafkaui"}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$")


def load(*names: str) -> dict[str, Any]:
    """The files as Compose joins them, as far as these files need it: lists are replaced, maps joined."""
    joined: dict[str, Any] = {}
    for name in names:
        joined = _joined(joined, yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))
    return joined


def _joined(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _joined(base[key], value) for key, value in over.items() if isinstance(base.get(key), dict)}
    return {**base, **over, **both}


def ends(service: dict[str, Any]) -> bool:
    """Whether it does its work and ends."""
    return bool(service["restart"] == "no")


def an_image_is_pinned(service: dict[str, Any], _: str) -> None:
    assert re.search(r":v?\d+\.\d+[\w.-]*$", service["image"]), service["image"]


def ports_are_for_this_machine_only(service: dict[str, Any], _: str) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port), port


def health_is_checked(service: dict[str, Any], _: str) -> None:
    check = service["healthcheck"]
    assert check == {"disable": True} if ends(service) else {"test", "interval", "timeout", "retries"} <= check.keys()


def memory_is_limited(service: dict[str, Any], _: str) -> None:
    assert re.fullmatch(r"\d+[mg]|\$\{[A-Z_]+:-\d+[mg]\}", service["mem_limit"])


def logs_are_rotated(service: dict[str, Any], _: str) -> None:
    assert service["logging"]["driver"] == "json-file"
    assert re.fullmatch(r"\d+m", service["logging"]["options"]["max-size"])
    assert int(service["logging"]["options"]["max-file"]) > 1


def rights_are_dropped(service: dict[str, Any], _: str) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"} & service.keys()


def a_process_is_reaped(service: dict[str, Any], _: str) -> None:
    assert service["init"] is True


def a_restart_is_not_for_ever(service: dict[str, Any], _: str) -> None:
    # `up --wait` must end with an error where a service cannot work.
    assert ends(service) or re.fullmatch(r"on-failure:\d+", service["restart"])


def its_files_are_read_only(service: dict[str, Any], name: str) -> None:
    assert service.get("read_only") is True or name in WRITABLE


def it_is_not_root(service: dict[str, Any], name: str) -> None:
    assert "build" in service or name in OWN_USER or re.fullmatch(r"[1-9]\d*:\d+", service["user"])


def secrets_come_from_outside(service: dict[str, Any], _: str) -> None:
    for name, value in service.get("environment", {}).items():
        assert not SECRET.search(name) or re.fullmatch(r"\$\{[A-Z_]+:-\}", value), name
        assert not re.search(r"://[^/$]*:[^/$]*@", str(value)), name


def folders_of_the_machine_stay_as_they_are(service: dict[str, Any], _: str) -> None:
    for mount in service.get("volumes", []):
        if isinstance(mount, str):
            assert re.match(r"[a-z][\w-]*:/", mount), f"{mount} is no named volume"
        else:
            assert (mount["type"], mount["read_only"]) == ("bind", True)
            assert mount["bind"] == {"create_host_path": False}
            assert "docker.sock" not in mount["source"]


def nothing_is_unset(service: dict[str, Any], _: str) -> None:
    for variable in re.findall(r"\$\{[^}]*\}", str(service)):
        assert re.match(r"\$\{[A-Z_]+:[-+]", variable), variable


RULES: list[Callable[[dict[str, Any], str], None]] = [
    an_image_is_pinned,
    ports_are_for_this_machine_only,
    health_is_checked,
    memory_is_limited,
    logs_are_rotated,
    rights_are_dropped,
    a_process_is_reaped,
    a_restart_is_not_for_ever,
    its_files_are_read_only,
    it_is_not_root,
    secrets_come_from_outside,
    folders_of_the_machine_stay_as_they_are,
    nothing_is_unset,
]
