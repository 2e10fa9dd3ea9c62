"""What this machine is like, beside what the settings ask of it."""

import resource
from pathlib import Path

from consumer.doctor import host
from consumer.doctor.findings import Finding
from consumer.settings import Settings

MB = 1024 * 1024


def a_machine(root: Path, total_mb: int, limits_mb: dict[str, int | None], group: str = "/box/inner") -> Path:
    """The files of a kernel with this memory, and with limits of groups of version 2."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {total_mb * 1024} kB\nMemFree: 1 kB\n")
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    for name, limit in limits_mb.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text("max\n" if limit is None else f"{limit * MB}\n")
    return root


def found(settings: Settings, about: str, root: Path = Path("/")) -> Finding:
    return next(each for each in host.examine(settings, root) if each.about == about)


def test_the_least_limit_of_all_groups_counts(tmp_path: Path) -> None:
    machine = a_machine(tmp_path, 8_000, {"box/inner": None, "box": 2_000, ".": None})
    assert host.memory_limit(machine) == 2_000 * MB


def test_a_limit_of_version_1_counts(tmp_path: Path) -> None:
    machine = a_machine(tmp_path, 8_000, {})
    (machine / "proc/self/cgroup").write_text("4:memory:/box\n1:cpu:/box\n")
    (machine / "sys/fs/cgroup/memory/box").mkdir(parents=True)
    (machine / "sys/fs/cgroup/memory/box/memory.limit_in_bytes").write_text(f"{500 * MB}\n")
    assert host.memory_limit(machine) == 500 * MB


def test_memory_is_compared_with_what_the_settings_allow(tmp_path: Path) -> None:
    settings = Settings(service={"workers": 2})
    verdicts = {}
    for total_mb in (16_000, 2_000, 700):
        machine = a_machine(tmp_path / str(total_mb), total_mb, {})
        verdicts[total_mb] = found(settings, "memory", machine).verdict
    assert verdicts == {16_000: "ok", 2_000: "warning", 700: "failure"}


def test_too_few_open_files_are_a_failure() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    settings = Settings(service={"max_in_flight": 64}, prepare={"threads": 2})
    assert found(settings, "open files").verdict == "ok"
    many = Settings(service={"max_in_flight": min(16_384, soft)}, prepare={"threads": 2})
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_024), hard))
        assert found(many, "open files").verdict == "failure"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_threads_than_cores_are_named() -> None:
    assert found(Settings(service={"workers": 64}, prepare={"threads": 64}), "cores").verdict == "warning"


def test_what_the_settings_name_must_be_there(tmp_path: Path) -> None:
    settings = Settings(
        fetch={"schemes": ("file",), "file_root": tmp_path / "none"}, triton={"repository": tmp_path / "no"}
    )
    assert found(settings, "photos in files").verdict == "failure"
    assert found(settings, "repository").verdict == "failure"
    there = Settings(fetch={"schemes": ("file",), "file_root": tmp_path}, triton={"repository": tmp_path})
    assert "photos in files" not in {each.about for each in host.examine(there)}
    assert found(there, "repository").verdict == "ok"
