"""Workers and decoding threads by the cores that this process may use: affinity and the quotas of control groups."""

import os
from pathlib import Path

import pytest

from consumer.settings import cores, load, rows
from consumer.settings.cores import default_threads, default_workers


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with what the kernel says there."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(text))
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 2, id="a container's quota, rounded up"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 8, id="no quota"),
        pytest.param("0::/\n", {"cpu.max": "6400000 100000\n"}, 8, id="a quota above the affinity"),
        pytest.param("0::/\n", {"cpu.max": "5000 100000\n"}, 1, id="less than one core"),
        pytest.param("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3, id="of a parent"),
        pytest.param("0::/a/b\n", {"a/cpu.max": "700000 100000", "a/b/cpu.max": "400000 100000"}, 4, id="the least"),
        pytest.param("0::/of/the/host\n", {"cpu.max": "200000 100000"}, 2, id="its group is the root that it sees"),
        pytest.param("0::/a:b\udcff\n", {"a:b\udcff/cpu.max": "200000 100000"}, 2, id="a name that is not UTF-8"),
        pytest.param(
            "4:cpu,cpuacct:/a\n0::/\n",
            {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            3,
            id="version 1",
        ),
        pytest.param(
            "4:cpu:/a\n3:cpuset:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            8,
            id="version 1 without a quota",
        ),
        pytest.param("0::/\n", {"cpu.max": ""}, 8, id="a file that says nothing"),
        pytest.param("0::/\n", {"cpu.max": "100000 0"}, 8, id="a period of nothing"),
        pytest.param("0::/\n", {}, 8, id="no such file"),
        pytest.param("nothing known\n\n", {}, 8, id="lines of another form"),
    ],
)
def test_the_quota_of_a_control_group_counts(tmp_path: Path, groups: str, files: dict[str, str], expected: int) -> None:
    under = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert cores.cores(machine(tmp_path, groups, under)) == expected


def test_a_system_without_control_groups_has_the_cores_that_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cores.cores(tmp_path) == 8
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores.cores(tmp_path) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("count", "workers", "threads"),
    [(1, 1, 2), (2, 1, 2), (3, 1, 2), (4, 1, 3), (5, 1, 4), (6, 2, 2), (8, 2, 3), (9, 3, 2), (12, 4, 2), (128, 4, 4)],
)
def test_a_worker_for_each_three_cores_and_a_thread_for_each_of_its_cores_but_one(
    count: int, workers: int, threads: int
) -> None:
    assert (default_workers(count), default_threads(count)) == (workers, threads)


def test_the_numbers_in_force_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cores, "cores", lambda: 8)
    shown = {row.name: (row.value, row.origin) for row in rows(load())}
    assert shown["service.workers"] == ("2", "default")
    assert shown["prepare.threads"] == ("3", "default")
    monkeypatch.setenv("TAGGER_SERVICE__WORKERS", "1")
    shown = {row.name: (row.value, row.origin) for row in rows(load())}
    assert shown["service.workers"] == ("1", "environment TAGGER_SERVICE__WORKERS")
