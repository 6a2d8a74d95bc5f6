"""What is asked again and again of the same files is worked out once."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

_Of = TypeVar("_Of")
_Rest = ParamSpec("_Rest")
_Result = TypeVar("_Result")


def _nothing() -> None:
    """Nobody watches."""


def once(
    function: Callable[Concatenate[_Of, _Rest], _Result],
) -> Callable[Concatenate[_Of, _Rest], _Result]:
    """Remembers each result of a pure function, for as long as its first argument lives.

    Args:
        function: its first argument (a checkout, a file, a syntax tree) takes attributes
            and never changes; the others are hashable. What it returns is shared by all
            who ask, so it is no iterator and nobody changes it.
    """
    name = f"_once_{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def remembered(of: _Of, /, *args: _Rest.args, **keywords: _Rest.kwargs) -> _Result:
        # Who watches what is read of a file is told of what is remembered of it too.
        getattr(of, "seen", _nothing)()
        known: dict[Any, _Result] = of.__dict__.setdefault(name, {})
        asked = (args, frozenset(keywords.items())) if keywords else args
        if asked not in known:
            known[asked] = function(of, *args, **keywords)
        return known[asked]

    return remembered
