from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from worldprobe.probes._threads import map_in_threads


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_come_in_order_and_blas_runs_on_one_thread_meanwhile(n_threads: int) -> None:
    seen: set[int] = set()
    used: set[int] = set()

    def work(task: int) -> int:
        seen.update(blas_threads())
        used.add(threading.get_ident())
        return task * task

    with threadpool_limits(n_threads, user_api="blas"):
        assert list(map_in_threads(work, iter(range(50)))) == [task * task for task in range(50)]
        assert blas_threads() == {n_threads}
    assert seen == {1}
    assert (threading.get_ident() in used) == (n_threads == 1)


def test_few_results_wait() -> None:
    started: list[int] = []
    with threadpool_limits(2, user_api="blas"):
        results = map_in_threads(started.append, range(100))
        next(results)
        assert len(started) <= 4
        results.close()  # type: ignore[attr-defined]  # an iterator that is a generator


def test_an_error_of_a_task_is_raised() -> None:
    with threadpool_limits(2, user_api="blas"), pytest.raises(ZeroDivisionError):
        list(map_in_threads(lambda task: 1 // task, [2, 1, 0]))
