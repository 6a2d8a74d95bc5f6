"""What a checkout's code is evaluated to, and what is refused rather than guessed."""

from textwrap import dedent

import pytest

from codemods.bindings import Checkout
from codemods.interpret import UNKNOWN, CannotFollow, Interpreter, Raised
from codemods.interpret.values import Function, Unknown
from codemods.names import Definition
from codemods.source import SourceFile


def result(code: str, *args: object, **others: str) -> object:
    """What `f` of the module returns; `others` are further modules."""
    files = {
        f"{name}.py": SourceFile(f"{name}.py", dedent(text).encode())
        for name, text in {"mod": code, **others}.items()
    }
    interpreter = Interpreter(Checkout(files))
    function = interpreter.named(Definition("mod.py", "f"))
    assert isinstance(function, Function)
    return interpreter.call(function, list(args), {})


@pytest.mark.parametrize(
    "body, worth",
    [
        ("a, b = 1, 2\n    a += 3\n    return a * b", 8),
        (
            "found = []\n    for d, n in zip([1, 2], 'xy'):\n        if d > 1:\n            found.append(n)\n    return found",
            ["y"],
        ),
        ("return {k: v for k, v in [('a', 1), ('b', 2)] if v > 1}", {"b": 2}),
        ("return [x for x in (1, 2) for _ in (1, 2)]", [1, 1, 2, 2]),
        ("g = lambda x, y=2: x + y\n    return g(1)", 3),
        ("def g(*args, **kw):\n        return args, kw\n    return g(1, a=2)", ((1,), {"a": 2})),
        ("return f'{1 + 1}-D {[1]}'", "2-D [1]"),
        ("return 1 if not [] else 2", 1),
        ("x = {'a': 1}\n    x['b'] = 2\n    return sum(x.values())", 3),
        ("for i in range(5):\n        if i == 1:\n            continue\n        if i == 3:\n            break\n    return i", 3),
        ("return 0 < 1 < 2 and 'a' in 'cab' and 3 not in (1, 2)", True),
        ("return isinstance('a', str), isinstance(1, (str, list))", (True, False)),
        ("with open('x') as g:\n        return 1", 1),
    ],
)  # fmt: skip
def test_plain_python(body, worth):
    assert result(f"def f():\n    {body}\n") == worth


def test_objects_properties_and_bases():
    code = """
        from dataclasses import dataclass, field
        from base import Base

        @dataclass
        class Dims(Base):
            tp: int
            seen: list = field(default_factory=list)

            def __post_init__(self):
                self.seen.append(self.tp)

            @property
            def tp_enabled(self):
                return self.tp > 1

        class Plain:
            def __init__(self, n, m=2):
                self.n = n * m

        def f():
            one, other = Dims(4), Dims(tp=1)
            return one.tp_enabled, other.tp_enabled, one.seen, other.seen, one.name(), Plain(n=3).n
    """
    base = "class Base:\n    def name(self):\n        return 'base'\n"
    assert result(code, base=base) == (True, False, [4], [1], "base", 6)


def test_names_are_followed_through_imports():
    code = "from other import twice as t, LIMIT\n\ndef f():\n    return t(LIMIT)\n"
    other = "LIMIT = 3\n\ndef twice(x):\n    return 2 * x\n"
    assert result(code, other=other) == 6


def test_what_comes_from_outside_is_unknown():
    assert isinstance(
        result("import torch\n\ndef f():\n    return torch.f(1).x + 2\n"), Unknown
    )


@pytest.mark.parametrize(
    "body",
    [
        "if x:\n        return 1",
        "while True:\n        pass",
        "for i in x:\n        pass",
        "import os\n    os.remove('x')\n    if os.path.exists('x'):\n        return 1",
        "async with x:\n        pass",
        "a = [1]\n    for i in range(60):\n        a.extend(a)",
        "a = 'x'\n    for i in range(60):\n        a = a + a",
        "a = 3\n    for i in range(99):\n        a = a * a",
        "return [0] * 100000000",
        "return range(10 ** 9)",
        "return 9 ** 9 ** 9",
        "return sorted([1], key=lambda v: v)",
        "return f(x)",
        "return ''.join.__self__",
        "yield 1",
    ],
)
def test_what_goes_beyond_is_refused(body):
    with pytest.raises(CannotFollow):
        result(f"def f(x):\n    {body}\n", UNKNOWN)


@pytest.mark.parametrize(
    "body, kind",
    [
        ("raise ValueError('no')", "ValueError"),
        ("assert 1 == 2, 'no'", "AssertionError"),
        ("return {}['a']", "KeyError"),
        ("return f(1, 2)", "TypeError"),
        ("return ''.__class__", "AttributeError"),
        ("return getattr([], '__class__')", "AttributeError"),
    ],
)
def test_what_it_raises_is_told(body, kind):
    with pytest.raises(Raised) as raised:
        result(f"def f(x=1):\n    {body}\n")
    assert raised.value.kind == kind


MEMBERS = """\
from enum import Enum

class Name(BASES):
    DATA = "data"

class Sizes:
    DATA = 3

def f():
    return VALUE
"""


@pytest.mark.parametrize(
    "bases, value, worth",
    [
        ("Enum", "Name.DATA.value", "data"),
        ("Enum", "Name.DATA.name", "DATA"),
        ("str, Enum", "Name.DATA.value", "data"),
        ("str, Enum", "'-'.join([Name.DATA, Name.DATA.lower()])", "data-data"),
        ("Enum", "Sizes.DATA", 3),
        ("Enum", "Name.OTHER", Unknown("Name.OTHER")),
    ],
)
def test_classes_give_their_constants_and_members(bases, value, worth):
    assert result(MEMBERS.replace("BASES", bases).replace("VALUE", value)) == worth
