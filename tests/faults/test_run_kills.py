"""Kill -9 in the work on a run, its promotion and its rollback, at moments that the seed decides: experiment 21."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer.operations import run_log
from consumer.runs.definition import Run
from consumer.service import release_log
from tests.change_bench import ChangeBench
from tests.faults.experiment import Experiment
from tests.harness import eventually
from tests.harness_process import environment

pytestmark = pytest.mark.timeout(240)

IN_FLIGHT = 4
#: A dead member is missed after three seconds, and what it had in work is read again.
QUICK = '{"session.timeout.ms": 3000, "heartbeat.interval.ms": 500, "auto.commit.interval.ms": 250}'


class Command:
    """`photo-tagger runs ...` in processes of its own, which may be killed."""

    def __init__(self, change: ChangeBench, *arguments: str) -> None:
        triton = change.settings.triton
        more = {
            "TAGGER_KAFKA__EXTRA": QUICK,
            "TAGGER_TRITON__ADMIN_KEY": triton.admin_key.get_secret_value(),
            "TAGGER_TRITON__REPOSITORY": str(triton.repository),
            "TAGGER_SERVICE__REPLAY_IN_FLIGHT": str(IN_FLIGHT),
        }
        self._env = environment(change.settings, **more)
        self._arguments = arguments

    def start(self, *program: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, *(program or ("-m", "consumer.cli")), "runs", *self._arguments],
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    async def killed(self, moment: Callable[[], object], after_s: float = 0.0) -> None:
        """Starts it and kills it so long after a moment; it may have ended by then."""
        process = self.start()
        await eventually(lambda: moment() or process.poll() is not None, deadline_s=60)
        await asyncio.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.communicate)

    async def completed(self) -> None:
        process = self.start()
        _, said = await asyncio.to_thread(process.communicate, timeout=120)
        assert process.returncode == 0, said.decode()


def answered(change: ChangeBench, run: Run) -> int:
    """Records in the topic of answers, repeats included."""
    return len(change.world.read(change.settings.kafka.topics.answers(run.run_id)))


@pytest.mark.experiment(21, "a worker of a run, its promotion and its rollback are killed")
async def test_a_run_that_is_killed_at_any_moment_is_finished_by_the_next_command(
    change: ChangeBench, experiment: Experiment
) -> None:
    photos, kills = experiment.size(60, full=200), experiment.size(2, full=5)
    async with change.world.service(change.settings) as service:
        change.upload(photos)
        await change.tagged(service)
        run = await change.run(rate=40)
        work = Command(change, "work", run.run_id)
        for kill in range(kills):
            enough = photos * (kill + experiment.chance.random()) / (kills + 1)
            await work.killed(lambda enough=enough: answered(change, run) >= enough)
        await work.completed()
        answers = change.answers(run)
        assert len(answers) == photos
        assert all(answer.after is not None for answer in answers.values())
        # Each kill repeats what was in work, and what was not committed yet.
        experiment.figure("answers repeated", answered(change, run) - photos)
        assert answered(change, run) <= photos + kills * (IN_FLIGHT + 40 * 0.75)
        change.check(1, "1")

        for number, version, action in ((2, "2", "promote"), (3, "1", "rollback")):
            forced = ("--force",) if action == "promote" else ()
            command = Command(change, action, run.run_id, "--reason", "a test", *forced)
            for _ in range(kills):
                await command.killed(
                    lambda number=number: len(release_log.history(change.settings.kafka)) >= number,
                    experiment.chance.uniform(0, 3),
                )
                change.upload(3)
            await command.completed()
            await change.tagged(service)
            change.check(number, version)
        assert len(release_log.history(change.settings.kafka)) == 3
    stored = await asyncio.to_thread(run_log.read, change.settings.kafka, run.run_id)
    assert (stored.state, stored.promoted, stored.rolled_back) == ("rolled back", 2, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent at once")
async def test_the_processes_of_a_promotion_that_is_killed_end_with_it(change: ChangeBench) -> None:
    async with change.world.service(change.settings) as service:
        change.upload(8)
        await change.tagged(service)
        run = await change.run()
        await change.work(run)
        shared = "from consumer.operations import run_processes as p; p._WORTH_SHARING = 1; p.cores = lambda: 2"
        command = Command(change, "promote", run.run_id, "--reason", "a test", "--force")
        process = command.start("-c", f"{shared}; from consumer.cli.main import main; main()")
        await eventually(lambda: len(workers_of(process.pid)) == 2 or process.poll() is not None)
        workers = workers_of(process.pid)
        process.kill()
        await asyncio.to_thread(process.communicate)
        assert len(workers) == 2
        await eventually(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in workers), deadline_s=5)
        await command.completed()
        change.check(2, "2")


def workers_of(parent: int) -> list[int]:
    """The processes that a promotion has started."""
    found = Path(f"/proc/{parent}/task/{parent}/children")
    children = list(map(int, found.read_text().split())) if found.exists() else []
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
