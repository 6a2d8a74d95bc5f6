"""Processes that work side by side."""

import os
import signal

from migrator.sweep.pool import Ended, Pool


def doubled():
    return lambda task: task * 2


def dies():
    def work(task: int) -> int:
        if task == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 5:
            os._exit(7)
        return task * 2

    return work


def test_every_task_has_its_result():
    pool = Pool(doubled, 2, lambda: None)
    assert sorted(pool.run(range(20))) == [(n, 2 * n) for n in range(20)]
    assert list(Pool(doubled, 2, lambda: None).run([])) == []


def test_where_a_process_ends_the_others_go_on():
    found = dict(Pool(dies, 2, lambda: None).run(range(12)))
    assert found.pop(3) == Ended("by signal 9") and found.pop(5) == Ended(
        "with exit code 7"
    )
    assert found == {n: 2 * n for n in range(12) if n not in (3, 5)}


def test_where_the_last_process_ends_its_task_is_told():
    assert list(Pool(dies, 1, lambda: None).run([3])) == [(3, Ended("by signal 9"))]


def test_no_process_stays_where_nobody_asks_on():
    pool = Pool(doubled, 2, lambda: None)
    results = pool.run(range(20))
    next(results)
    processes = [worker.process.pid for worker in pool._workers]
    results.close()
    for process in processes:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            continue
        raise AssertionError(process)
