"""Workers that crash or hang cost their own task and nothing else. Tasks are ready-made calls that can be pickled."""

import functools
import operator
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.data.workers import LOST, map_in_order
from pipeline.errors import PipelineError

call = functools.partial


def run(tasks, workers=2, seconds=30.0):
    return [answer for _, answer in map_in_order(operator.call, tasks, workers, seconds)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_answers_come_in_the_order_of_the_tasks(workers):
    tasks = [call(operator.pow, number, 2) for number in range(30)]
    tasks[0] = call(time.sleep, 0.3)  # late, and still first
    assert run(tasks, workers) == [None, *(number**2 for number in range(1, 30))]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_kills_its_worker_is_lost_alone(workers, capfd):
    tasks = [
        call(abs, -1),
        call(os._exit, 3),
        call(abs, -2),
        call(os.abort),
        call(operator.truediv, 1, 0),
        call(abs, -3),
    ]
    assert run(tasks, workers) == [1, LOST, 2, LOST, LOST, 3]


def test_a_task_that_hangs_is_given_up(capfd):
    started = time.monotonic()
    assert run([call(time.sleep, 600), call(abs, -1), call(abs, -2)], workers=2, seconds=2.0) == [LOST, 1, 2]
    assert time.monotonic() - started < 20


class FirstTime:
    """Does something harmful, but only once."""

    def __init__(self, folder, harm):
        self.mark, self.harm = folder / "done", harm

    def __call__(self):
        if not self.mark.exists():
            self.mark.touch()
            self.harm()
        return 7


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("harm", [kill_myself, call(time.sleep, 600)])
def test_a_worker_that_is_killed_or_late_once_costs_its_task_nothing(tmp_path, harm):
    """The kernel kills when memory runs out; a machine may be busy. Neither is the row's fault."""
    assert run([call(abs, -1), FirstTime(tmp_path, harm), call(abs, -2)], seconds=2.0) == [1, 7, 2]


def test_a_worker_that_is_killed_twice_is_no_fault_of_its_row():
    with pytest.raises(PipelineError, match="killed twice, as happens when memory runs out"):
        run([call(abs, -1), kill_myself, call(abs, -2)])


class SlowToLoad:
    def __call__(self, task):
        return task

    def __setstate__(self, state):
        time.sleep(3)

    def __getstate__(self):
        return {"a": 1}


def test_the_time_that_a_worker_takes_to_start_is_not_its_tasks():
    assert [answer for _, answer in map_in_order(SlowToLoad(), [1, 2], 1, 1.0)] == [1, 2]


def note_scratch(path):
    path.write_text(tempfile.mkdtemp())
    time.sleep(600)


def test_what_a_late_worker_had_fetched_is_removed(tmp_path):
    assert run([call(note_scratch, tmp_path / "where")], seconds=1.0) == [LOST]
    assert not Path((tmp_path / "where").read_text()).exists()


def test_no_tasks_and_a_consumer_that_stops_leave_no_worker():
    import multiprocessing

    assert run([]) == []
    answers = map_in_order(operator.call, [call(abs, -1)] * 50, 2, 30.0)
    next(answers)
    answers.close()
    assert multiprocessing.active_children() == []


def test_an_error_of_the_tasks_themselves_comes_through():
    """A listing that turns out not to be one in the middle must stop the stage."""

    def tasks():
        yield call(abs, -1)
        raise ValueError("row 2")

    with pytest.raises(ValueError, match="row 2"):
        run(tasks())


def write_on_a_full_disk():
    Path("/dev/full").write_text("more")


def test_a_full_disk_is_no_fault_of_the_task_that_met_it():
    with pytest.raises(PipelineError, match="no space left on the disk"):
        run([call(abs, -1), write_on_a_full_disk, call(abs, -2)])
