"""Parts of a migration whose results may be taken over from another tree."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class Reuse(Protocol):
    """Knows results of other trees."""

    def result(self, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """What a phase gives, worked out or taken over.

        Args:
            function: the phase itself.
            given: what it is called with.
        """


_REUSE: ContextVar[Reuse | None] = ContextVar("reuse", default=None)


@contextmanager
def reusing(reuse: Reuse) -> Iterator[None]:
    """Have something take results over for a while."""
    before = _REUSE.set(reuse)
    try:
        yield
    finally:
        _REUSE.reset(before)


def phase(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A function of a checkout, a survey or facts, and of values, that changes none of them.

    What it reads of files it reads through these. ``decide`` may add a file to a checkout.

    Args:
        function: it is called with positional arguments, the checkout or what has it first.
    """

    @wraps(function)
    def taken(*given: _Given.args, **named: _Given.kwargs) -> _Result:
        reuse = _REUSE.get()
        if reuse is None or named:
            return function(*given, **named)
        result: _Result = reuse.result(function, given)
        return result

    return taken
