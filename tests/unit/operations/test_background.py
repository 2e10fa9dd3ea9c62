import os
from pathlib import Path

import pytest

from consumer.operations import background
from consumer.operations.background import in_background
from consumer.settings import Settings

IDLE = [("7", os.SCHED_IDLE), ("8", os.SCHED_IDLE)]
YIELDS, COMPETES = Settings(), Settings.model_validate({"service": {"replay_yields": False}})


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the kernel is told the rank of this session; the process has two threads."""
    monkeypatch.setattr(background, "_SESSION", tmp_path / "autogroup")
    for thread in ("7", "8"):
        (tmp_path / "task" / thread).mkdir(parents=True)
    monkeypatch.setattr(background, "_THREADS", tmp_path / "task")
    return tmp_path / "autogroup"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the kernel is asked for, which no test asks for itself: no process gets its priority back."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda thread, policy, _: found.append((str(thread), policy)))
    monkeypatch.setattr(os, "nice", lambda more: found.append(("nice", more)))
    return found


def test_a_job_that_yields_asks_for_idle_cores_alone_and_waits_long_for_a_decode(asked: list[tuple[str, int]]) -> None:
    settings = in_background(YIELDS)
    assert sorted(asked) == IDLE
    assert settings.prepare.timeout_s > 300 * YIELDS.prepare.max_decode_cpu_s
    assert settings.prepare.model_copy(update={"timeout_s": YIELDS.prepare.timeout_s}) == YIELDS.prepare


def test_a_job_that_competes_keeps_its_priority_and_its_limits(asked: list[tuple[str, int]]) -> None:
    assert in_background(COMPETES) is COMPETES
    assert asked == []


@pytest.mark.parametrize("missing", [True, False])
def test_a_system_that_knows_or_allows_no_idle_policy_gives_the_lowest_priority(
    asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    if missing:
        monkeypatch.delattr(os, "sched_setscheduler")
    else:
        monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    assert in_background(YIELDS) != YIELDS
    assert asked == [("nice", 19)]


@pytest.mark.parametrize("leads", [True, False])
def test_a_session_is_ranked_behind_the_others_only_if_it_is_the_job_s_own(
    asked: list[tuple[str, int]], session: Path, monkeypatch: pytest.MonkeyPatch, leads: bool
) -> None:
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid() if leads else os.getppid())
    in_background(COMPETES)
    assert not session.exists()
    in_background(YIELDS)
    assert (session.read_text() if session.exists() else None) == ("19" if leads else None)
    assert sorted(asked) == IDLE


def test_a_kernel_without_ranks_of_sessions_is_left_alone(
    asked: list[tuple[str, int]], session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_SESSION", session / "missing")
    monkeypatch.setattr(os, "getsid", lambda _: os.getpid())
    assert in_background(YIELDS) != YIELDS
    assert sorted(asked) == IDLE
