"""Worker processes that may die: a task that crashes or hangs its worker is answered as lost, and the work goes on."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError

LOST = object()  # the answer to a task that took its worker with it


def _serve(function: Callable, connection: Connection) -> None:
    die_with_parent()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = function(task)
        except PipelineError as error:  # the same for every task: a data folder that is gone
            answer = error
        connection.send(answer)


class _Worker:
    def __init__(self, context, function: Callable):
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None
        self.deadline = 0.0

    def give(self, number: int, task: Any, seconds: float) -> None:
        self.connection.send(task)
        self.number, self.deadline = number, time.monotonic() + seconds

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def map_in_order(function: Callable, tasks: Iterable, workers: int, seconds: float) -> Iterator[tuple[Any, Any]]:
    """(task, answer) in the order of ``tasks``; the answer is LOST where the worker died or took over ``seconds``.

    A PipelineError of a task is raised at once, whatever waits.
    At most four tasks a worker are under way or waiting to be handed on, so memory is bounded.
    """
    context = multiprocessing.get_context("spawn")
    source = enumerate(tasks)
    pending: dict[int, Any] = {}
    answers: dict[int, Any] = {}
    pool: list[_Worker] = []
    following, exhausted = 0, False
    try:
        while True:
            idle = [worker for worker in pool if worker.number is None]
            while not exhausted and len(pending) < 4 * workers and (idle or len(pool) < workers):
                number, task = next(source, (None, None))
                if number is None:
                    exhausted = True
                    break
                if not idle:
                    pool.append(_Worker(context, function))
                    idle = [pool[-1]]
                pending[number] = task
                idle.pop().give(number, task, seconds)
            while following in answers:
                yield pending.pop(following), answers.pop(following)
                following += 1
            busy = [worker for worker in pool if worker.number is not None]
            if not busy:
                if exhausted and not pending:
                    return
                continue
            _collect(busy, pool, answers)
    finally:
        for worker in pool:
            worker.end()


def _collect(busy: list[_Worker], pool: list[_Worker], answers: dict[int, Any]) -> None:
    """Wait for answers; replace workers that died or are late."""
    patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
    ready = set(wait([worker.connection for worker in busy], timeout=patience))
    for worker in busy:
        lost = worker.connection not in ready and time.monotonic() > worker.deadline
        if worker.connection in ready:
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                lost = True
            else:
                if isinstance(answer, PipelineError):
                    raise answer
                answers[worker.number], worker.number = answer, None
        if lost:
            answers[worker.number] = LOST
            worker.end()
            pool.remove(worker)
