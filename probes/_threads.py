"""Work on several threads, whose results do not depend on how many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Yield the results of a function of arrays, in the order of the tasks.

    There are as many threads as the linear algebra library is set to use (OMP_NUM_THREADS, say); meanwhile each of its calls runs on
    one, so that its results are the same bits at any number of threads. No more than a few results wait to be taken.
    """
    libraries = _controller()
    n_threads = max((library.num_threads for library in libraries.lib_controllers), default=1)
    with libraries.limit(limits=1):
        if n_threads == 1:
            yield from map(function, tasks)
            return
        with ThreadPoolExecutor(n_threads) as pool:
            waiting: deque[Future[Result]] = deque()
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) > n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@cache
def _controller() -> ThreadpoolController:
    """Return the control of the linear algebra libraries' threads, which takes milliseconds to make."""
    return ThreadpoolController().select(user_api="blas")
