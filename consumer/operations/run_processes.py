"""Applies the answers of a large run by several processes, since each is bound by the CPU time of Python.

Each has partitions of its own: all answers to a photo are in one.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from consumer.errors import DependencyDown, Refused
from consumer.kafka.offsets import Partition
from consumer.kafka.scan import TopicReader
from consumer.operations.run_apply import NONE, Counts, Progress, Task, apply_here
from consumer.runs.definition import Run
from consumer.service.worker import end_with
from consumer.settings import Settings
from consumer.settings.cores import cores
from consumer.telemetry import Log, configure_logging

#: A process takes a second to start, in which one alone applies some thousand answers.
_WORTH_SHARING: Final = 10_000
_MOST_PROCESSES: Final = 16
_LOOK_S: Final = 0.2


async def apply(settings: Settings, log: Log, task: Task, progress: Progress) -> Counts:
    """Applies all answers, in several processes if there are many.

    Raises:
        DependencyDown: Kafka does not answer.
        Refused: one of the processes was killed.
    """
    held = await asyncio.to_thread(_held, settings, task.run)
    tasks = [replace(task, ranges=share) for share in _shares(held, cores())]
    if len(tasks) == 1:
        return await apply_here(settings, log, tasks[0], lambda done: progress(done, 0))
    return await _share(settings, tasks, progress)


def _held(settings: Settings, run: Run) -> dict[Partition, range]:
    """The offsets of each partition of the answers.

    Raises:
        DependencyDown: Kafka does not answer.
    """
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap_servers, kafka.extra, [kafka.topics.answers(run.run_id)]) as reader:
        return reader.ranges()


def _shares(held: Mapping[Partition, range], cores: int) -> list[dict[Partition, range]]:
    """The ranges of each process, about as many answers for each; one share where more are not worth it."""
    filled = {partition: offsets for partition, offsets in held.items() if offsets}
    count = min(cores, sum(map(len, held.values())) // _WORTH_SHARING + 1, len(filled), _MOST_PROCESSES)
    shares = [dict[Partition, range]() for _ in range(max(1, count))]
    for partition in sorted(filled, key=lambda each: (-len(filled[each]), each)):
        least = min(shares, key=lambda share: sum(map(len, share.values())))
        least[partition] = filled[partition]
    return shares


async def _share(settings: Settings, tasks: Sequence[Task], progress: Progress) -> Counts:
    """Applies each task in a process of its own; all end when one fails or this is cancelled.

    Raises:
        DependencyDown: Kafka does not answer.
        Refused: one of the processes was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    told, processes = dict[Connection, int](), list[SpawnProcess]()
    counts = Counter(NONE)
    try:
        for task in tasks:
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_child, args=(settings, os.getpid(), theirs, task), daemon=True)
            process.start()
            theirs.close()
            told[ours] = 0
            processes.append(process)
        waiting = set(told)
        while waiting:
            await asyncio.to_thread(wait, list(waiting), _LOOK_S)
            for each in [each for each in waiting if each.poll()]:
                answer = _received(each)
                if isinstance(answer, int):
                    told[each] = answer
                    continue
                waiting.remove(each)
                counts.update(answer)
            progress(sum(told.values()), 0)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    return counts


def _received(connection: Connection) -> int | Counts:
    """What a process says: how many it has applied, or its counts at the end.

    Raises:
        DependencyDown: Kafka does not answer it.
        Refused: it was killed.
    """
    try:
        answer: int | Counts | tuple[str, str] = connection.recv()
    except EOFError:
        raise Refused("a process that applied answers was killed: repeat the command, it goes on") from None
    if isinstance(answer, tuple):
        raise DependencyDown("kafka", answer[1])
    return answer


def _child(settings: Settings, parent: int, told: Connection, task: Task) -> None:
    """A process of `_share`."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
    log = configure_logging("warning", settings.log.format, sys.stderr)
    try:
        counts = asyncio.run(apply_here(settings, log, task, told.send))
    except DependencyDown as down:
        told.send(("kafka", down.detail))
    else:
        told.send(dict(counts))
