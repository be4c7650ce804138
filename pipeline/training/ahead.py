"""Work that threads do in advance, so that its consumer need not wait."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(tasks: Iterable[Callable[[], T]], depth: int, threads: int) -> Iterator[T]:
    """Results of ``tasks`` in their order; up to ``depth`` are computed or computing in advance, 0: none.

    An error is raised where its result would have come. Close the iterator to stop early: it waits for tasks under way.
    """
    if depth == 0:
        for task in tasks:
            yield task()
        return
    tasks = iter(tasks)
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        waiting = deque(pool.submit(task) for task in islice(tasks, depth))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(task) for task in islice(tasks, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
