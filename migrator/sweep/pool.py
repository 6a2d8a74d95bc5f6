"""Processes that work side by side; where one ends by itself, the others go on."""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

Make = Callable[[], Callable[[_Task], _Result]]
"""Gives what works on tasks, in the process that does; it is sent to there."""


@dataclass(frozen=True)
class Ended:
    """In the place of a result: the process that worked on it ended.

    Args:
        reason: how, for people.
    """

    reason: str


def _context() -> Any:
    """By a copy of this process where the platform can, with all that is imported."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("fork" if "fork" in methods else "spawn")


def _work(
    ours: Connection, others: Sequence[Connection], make: Make[_Task, _Result]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:  # else nobody would see that the first process is gone
        other.close()
    work = make()
    # Where the first process is gone there is nobody to work for.
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            ours.send(work(ours.recv()))


class _Worker(Generic[_Task, _Result]):
    """A process, and what is left for it to do."""

    def __init__(self, tasks: Sequence[_Task]) -> None:
        self.todo = deque(tasks)
        self.task: _Task | None = None
        self.process: Any = None
        self.connection: Connection | None = None


class Pool(Generic[_Task, _Result]):
    """Works on tasks in processes, neighbours one after another in the same one.

    Args:
        make: gives what works on a task.
        jobs: how many processes there are.
        tick: called every half a second or more often.
    """

    def __init__(
        self, make: Make[_Task, _Result], jobs: int, tick: Callable[[], None]
    ) -> None:
        self._make, self._jobs, self._tick = make, jobs, tick
        self._workers: list[_Worker[_Task, _Result]] = []

    def run(self, tasks: Sequence[_Task]) -> Iterator[tuple[_Task, _Result | Ended]]:
        """Each task with its result, as they come; the processes are gone when this ends."""
        jobs = min(self._jobs, len(tasks))
        bounds = [len(tasks) * n // jobs for n in range(jobs + 1)] if jobs else [0]
        parts = zip(bounds, bounds[1:])
        self._workers = [_Worker(tasks[start:end]) for start, end in parts]
        try:
            for worker in self._workers:
                self._start(worker)
                self._hand_out(worker)
            while any(worker.task is not None for worker in self._workers):
                yield from self._results()
                self._tick()
        finally:
            for worker in self._workers:
                _stop(worker)

    def _results(self) -> Iterator[tuple[_Task, _Result | Ended]]:
        busy = {w.connection: w for w in self._workers if w.task is not None}
        for connection in wait([c for c in busy if c is not None], timeout=0.5):
            assert isinstance(connection, Connection)
            worker = busy[connection]
            task, result = worker.task, self._received(worker)
            assert task is not None
            self._hand_out(worker)
            yield task, result

    def _received(self, worker: _Worker[_Task, _Result]) -> _Result | Ended:
        assert worker.connection is not None
        try:
            result: _Result = worker.connection.recv()
            return result
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            _stop(worker)
            if any(one.todo for one in self._workers):
                self._start(worker)
            return Ended(how)

    def _start(self, worker: _Worker[_Task, _Result]) -> None:
        context = _context()
        worker.connection, theirs = context.Pipe()
        others = [w.connection for w in self._workers if w.connection is not None]
        inherited = others if context.get_start_method() == "fork" else []
        worker.process = context.Process(
            target=_work, args=(theirs, inherited, self._make), daemon=True
        )
        worker.process.start()
        theirs.close()

    def _hand_out(self, worker: _Worker[_Task, _Result]) -> None:
        """Give a process its next task, or the last one of who has most left."""
        worker.task = None
        most = max(self._workers, key=lambda one: len(one.todo))
        if worker.connection is None or not (worker.todo or most.todo):
            return
        worker.task = worker.todo.popleft() if worker.todo else most.todo.pop()
        worker.connection.send(worker.task)


def _stop(worker: _Worker[_Task, _Result]) -> None:
    if worker.connection is not None:
        worker.connection.close()
        worker.connection = None
    if worker.process is not None:
        worker.process.terminate()
        worker.process.join()
        worker.process = None
