"""The limits of fetching, which are also the defaults of the settings `fetch` and `hosts`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Scheme = Literal["https", "http", "file"]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Where photos may come from, and the limits of one fetch."""

    schemes: tuple[Scheme, ...] = ("https",)
    file_root: Path | None = None
    allow_addresses: tuple[str, ...] = ()
    #: The buckets, each with the options of its client, which contain credentials; the proxy's URL may, too.
    stores: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    max_bytes: int = 20 * 1024 * 1024
    max_redirects: int = 3
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 3.0
    total_timeout_s: float = 10.0
    not_found_grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class HostLimits:
    """When a photo host counts as down, and how long its photos wait for it."""

    #: Consecutive different photos without an answer before a host that worked is probed with a photo it served before.
    failure_threshold: int = 3
    #: Different photos that could not be fetched, if no host has answered since the start.
    startup_failure_threshold: int = 5
    #: Another host that answered within this time shows that fetching works.
    healthy_s: float = 30.0
    #: How long a photo keeps its place in the window while it waits for its host.
    max_wait_s: float = 60.0
    #: After this time a host no longer counts as down: its photos fail one by one.
    max_outage_s: float = 86_400.0
    #: Between two probes of a host.
    probe_interval_s: float = 1.0
    #: A fetch that takes longer is late; as long, at most, does a photo wait for a place among those of a silent host.
    overdue_s: float = 1.0
    #: The part of the places in flight that one host may hold that does not answer.
    max_share: float = 0.25
    #: The same for all hosts together; at most half, since a full window opens again when half of it is free.
    max_total_share: float = 0.375
