"""What runs after a call, read alone."""

import ast

import pytest

from codemods.nodes import of_kind
from codemods.plans.flow import behind

SOURCE = """
def f(model, a):
    one()
    if a:
        with b:
            wrap(model)
            two()
        END
    else:
        three()
    for x in y:
        four()
"""


@pytest.mark.parametrize(
    ("end", "found"),
    [
        ("pass", ["two()", "pass", "for x in y:\n    four()", "four()"]),
        ("return model", ["two()", "return model"]),
        (
            "if c:\n            return model\n        else:\n            raise E",
            ["two()", "if c:\n    return model\nelse:\n    raise E"],
        ),
    ],
)
def test_what_runs_behind_a_call_is_in_no_other_branch(end, found):
    (function,) = ast.parse(SOURCE.replace("END", end)).body
    (call,) = [c for c in of_kind(function, ast.Call) if ast.unparse(c.func) == "wrap"]
    said = [ast.unparse(s) for s in behind(function, call)]
    assert [one for one in said if one not in ("return model", "raise E")] == [
        one for one in found if one != "return model"
    ]
