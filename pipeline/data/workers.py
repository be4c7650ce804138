"""Worker processes that may die: a task that crashes or hangs its worker is answered as lost, and the work goes on."""

import contextlib
import math
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError, full_disk_explained

LOST = object()  # the answer to a task that took its worker with it
READY = "ready"  # what a worker says first


def _name(task: Any) -> str:
    return str(getattr(task, "id", None) or getattr(task, "path", task))


def _serve(function: Callable, connection: Connection, scratch: str) -> None:
    die_with_parent()
    tempfile.tempdir = scratch
    connection.send(READY)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            with full_disk_explained(_name(task)):
                answer = function(task)
        except PipelineError as error:  # the same for every task: a data folder that is gone, a disk that is full
            answer = error
        connection.send(answer)


class _Worker:
    def __init__(self, context, function: Callable, seconds: float):
        self.scratch = tempfile.TemporaryDirectory(prefix="worker-", ignore_cleanup_errors=True)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs, self.scratch.name), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None
        self.seconds, self.ready, self.deadline = seconds, False, math.inf

    def give(self, number: int, task: Any) -> None:
        self.number = number
        self.deadline = time.monotonic() + self.seconds if self.ready else math.inf
        with contextlib.suppress(OSError):  # it has died; that is noticed where answers are waited for
            self.connection.send(task)

    def receive(self) -> Any:
        """Its answer; READY restarts the clock of its task, for starting may take long. Raises where it has died."""
        answer = self.connection.recv()
        if not self.ready:
            self.ready, self.deadline = True, time.monotonic() + self.seconds
            return READY
        self.number = None
        return answer

    def was_killed(self) -> bool:
        """Whether something outside has killed it, as the kernel does when memory runs out."""
        self.process.join(1.0)  # its end of the connection closes a moment before
        return self.process.exitcode in (-signal.SIGKILL, -signal.SIGTERM)

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.scratch.cleanup()


def map_in_order(function: Callable, tasks: Iterable, workers: int, seconds: float) -> Iterator[tuple[Any, Any]]:
    """(task, answer) in the order of ``tasks``; the answer is LOST where the worker crashed, or twice took over
    ``seconds``.

    A PipelineError of a task is raised at once, whatever waits; one is raised, too, where the worker of a task is
    killed twice: that tells of the machine, not of the task.
    At most four tasks a worker are under way or waiting to be handed on, so memory is bounded.
    """
    context = multiprocessing.get_context("spawn")
    source = enumerate(tasks)
    pending: dict[int, Any] = {}
    answers: dict[int, Any] = {}
    pool: list[_Worker] = []
    again: list[int] = []  # tasks to be given a second time
    tried: set[int] = set()
    following, exhausted = 0, False
    try:
        while True:
            idle = [worker for worker in pool if worker.number is None]
            while (again or (not exhausted and len(pending) < 4 * workers)) and (idle or len(pool) < workers):
                number = again.pop() if again else None
                if number is None:
                    number, task = next(source, (None, None))
                    if number is None:
                        exhausted = True
                        break
                    pending[number] = task
                if not idle:
                    pool.append(_Worker(context, function, seconds))
                    idle = [pool[-1]]
                idle.pop().give(number, pending[number])
            while following in answers:
                yield pending.pop(following), answers.pop(following)
                tried.discard(following)
                following += 1
            busy = [worker for worker in pool if worker.number is not None]
            if not busy:
                if exhausted and not pending:
                    return
                continue
            for worker, late in _collect(busy, answers):
                pool.remove(worker)
                number, killed = worker.number, not late and worker.was_killed()
                worker.end()
                if (late or killed) and number not in tried:
                    tried.add(number)
                    again.append(number)
                elif killed:
                    raise PipelineError(
                        f"the worker process of {_name(pending[number])} was killed twice, as happens when memory runs "
                        "out; give the job more memory, or fewer workers (runtime.workers)"
                    )
                else:
                    answers[number] = LOST
    finally:
        for worker in pool:
            worker.end()


def _collect(busy: list[_Worker], answers: dict[int, Any]) -> list[tuple[_Worker, bool]]:
    """Wait for answers; returns the workers that died, and those that are late (True)."""
    patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
    ready = set(wait([worker.connection for worker in busy], timeout=None if math.isinf(patience) else patience))
    lost = []
    for worker in busy:
        if worker.connection in ready:
            number = worker.number
            try:
                answer = worker.receive()
            except (EOFError, OSError):
                lost.append((worker, False))
                continue
            if isinstance(answer, PipelineError):
                raise answer
            if answer is not READY:
                answers[number] = answer
        elif time.monotonic() > worker.deadline:
            lost.append((worker, True))
    return lost
