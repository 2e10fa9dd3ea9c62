"""Redis or Valkey: its version, memory, persistence, rights and clock."""

from collections.abc import Mapping
from typing import Final

from consumer.doctor.findings import Finding, Findings, Until, clock, failure, ok, warning
from consumer.redis.inspection import Inspection
from consumer.settings import Settings

#: What the tests run with.
_OLDEST: Final = (6, 2)
_CLOCK_S: Final = 1.0
#: Share of the memory from which it is nearly full.
_NEARLY: Final = 0.9
_ALIVE: Final = "is it running, and is it the one in redis.url? `photo-tagger config` shows from where"
_RIGHTS: Final = "docs/how-to/secure.md lists the commands and keys that the user needs"
_MB: Final = 1e6


def examine(settings: Settings, until: Until) -> Findings:
    """Asks the server; blocking.

    Yields:
        The findings, as they come.

    Raises:
        DependencyDown: it does not answer, or no more.
        SettingsError: its URL has an option that cannot be used.
    """
    redis = settings.redis
    with Inspection(redis.url, min(redis.timeout_s, until.left_s)) as server:
        server.ping()
        yield ok("redis", "answer", "it answers")
        info = server.info()
        if info is None:
            detail = "this user may not call INFO: version, memory and persistence are not known"
            yield warning(
                "redis", "info", detail, "run `doctor` as an operator, or let this user: +info +config|get +time"
            )
        else:
            yield _version(info)
            yield from _role(info, cluster=redis.cluster)
            yield from _memory(info)
            yield from _persistence(info, saves=server.saves())
        yield from _rights(server, cache=settings.dedupe.enabled)
        if (ahead_s := server.ahead_s()) is not None:
            yield clock("redis", "Redis", ahead_s, _CLOCK_S)


def advice(detail: str) -> str:
    """What to do where it does not answer, unless its words say that already."""
    return _RIGHTS if "docs/how-to/secure.md" in detail else _ALIVE


def _version(info: Mapping[str, str]) -> Finding:
    valkey = info.get("valkey_version")
    version = info.get("redis_version", "0")
    name = f"Valkey {valkey}" if valkey else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        return failure("redis", "version", f"{name}: older than {wanted}", f"use Redis {wanted} or newer, or Valkey")
    return ok("redis", "version", name)


def _role(info: Mapping[str, str], *, cluster: bool) -> Findings:
    if info.get("role") == "slave" and not cluster:
        detail = f"a replica of {info.get('master_host')}:{info.get('master_port')}: it takes no writes"
        yield failure("redis", "role", detail, "let redis.url name the master")
    if (info.get("cluster_enabled") == "1") != cluster:
        is_one = info.get("cluster_enabled") == "1"
        detail = "it is a node of a cluster" if is_one else "it is no node of a cluster"
        yield failure("redis", "cluster", f"{detail}, redis.cluster={str(cluster).lower()}", _set(cluster=is_one))


def _set(*, cluster: bool) -> str:
    return f"TAGGER_REDIS__CLUSTER={str(cluster).lower()}"


def _memory(info: Mapping[str, str]) -> Findings:
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        detail = f"maxmemory-policy {policy}: tags vanish when its memory is full, and brand indexes keep their photos"
        yield failure("redis", "eviction", detail, "CONFIG SET maxmemory-policy noeviction, and in redis.conf")
    else:
        yield ok("redis", "eviction", "noeviction")
    if not limit:
        detail = f"{used / _MB:,.0f} MB used, no maxmemory: it takes what the host has, and is then killed"
        yield warning("redis", "memory", detail, "CONFIG SET maxmemory; `photo-tagger sizing` says how much is needed")
    elif used >= _NEARLY * limit:
        found = failure if used >= limit else warning
        detail = f"{used / _MB:,.0f} of {limit / _MB:,.0f} MB used; the service waits when it is full"
        yield found("redis", "memory", detail, "raise maxmemory; `photo-tagger sizing` says how much is needed")
    else:
        yield ok("redis", "memory", f"{used / _MB:,.0f} of {limit / _MB:,.0f} MB used")


def _persistence(info: Mapping[str, str], *, saves: bool | None) -> Findings:
    rewrites = info.get("aof_enabled") == "1"
    broken = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(name, "ok") != "ok"]
    if broken:
        detail = f"{', '.join(f'{name} is {info[name]}' for name in broken)}: it refuses writes"
        yield failure("redis", "persistence", detail, "look at its log and its disk")
    elif not rewrites and saves is False:
        detail = "neither an append-only file nor snapshots: empty after a restart"
        yield warning("redis", "persistence", detail, "appendonly yes; or `photo-tagger rebuild` after each restart")
    else:
        kept = "append-only file" if rewrites else "snapshots" if saves else "this user may not read how"
        yield ok("redis", "persistence", kept)


def _rights(server: Inspection, *, cache: bool) -> Findings:
    """Calls each command so that it changes nothing.

    Yields:
        The findings.
    """
    refused = server.refusals(cache=cache)
    if refused.forbidden:
        detail = f"this user may not {', '.join(refused.forbidden)}"
        yield failure("redis", "rights", detail, _RIGHTS)
    for other in refused.others:
        yield failure("redis", "writes", other, "the service waits while writes are refused: see memory, role and disk")
    if not refused.forbidden and not refused.others:
        yield ok("redis", "rights", "this user may do what the service does")
