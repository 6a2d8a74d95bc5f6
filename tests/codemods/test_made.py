"""Of which classes a module is."""

import ast

import pytest

from codemods.bindings import Checkout
from codemods.made import made
from codemods.nodes import nodes

from support import HERE, checkout, text

ELSEWHERE = "torchtitan/heads.py"
HEADS = """
    import torch.nn as nn


    class Head(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(1, 1)

        @classmethod
        def small(cls):
            return cls()

        def width(self):
            return 1


    class Tail(Head):
        pass


    def build(kind):
        if kind:
            return Head().cuda()
        model = Tail()
        return model
"""
IMPORTS = """
    import copy

    import torch
    import torch.nn as nn
    from transformers import AutoModel

    from torchtitan import heads
    from torchtitan.heads import build, Head, Tail
"""


def kinds(source: str, files=None) -> set[str]:
    """What the argument of each wrap(...) is made from; ? for what is unknown, ~ for what is declared."""
    everything = {HERE: text(IMPORTS) + text(source), ELSEWHERE: HEADS, **(files or {})}
    tree = Checkout(checkout(everything))
    file = tree.files[HERE]
    return {
        ("~" if one.declared else "") + (one.name or "?")
        for node in nodes(file.syntax)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "wrap"
        for one in made(tree, file, node.args[0])
    }


@pytest.mark.parametrize(
    "lines, expected",
    [
        ("wrap(Head())", {"Head"}),
        ("wrap(heads.Head())", {"Head"}),
        ("wrap(Head.small())", {"Head"}),
        ("wrap(Head.from_config(1))", {"Head"}),
        ("wrap(Head.width(1))", {"?"}),
        ("wrap(nn.Sequential(nn.Linear(1, 1)))", {"torch.nn.Sequential"}),
        ("wrap(AutoModel.from_pretrained('m'))", {"transformers.AutoModel"}),
        ("m = Head()\nwrap(m)", {"Head"}),
        ("m: nn.Module = Head()\nwrap(m)", {"Head"}),
        ("m = Head()\nm = m.to(0).train()\nwrap(m)", {"Head"}),
        ("m = copy.deepcopy(Head())\nwrap(torch.compile(m))", {"Head"}),
        ("m = Head() if a else Tail()\nwrap(m)", {"Head", "Tail"}),
        ("m = None or Head()\nwrap(m)", {"Head"}),
        ("wrap(m := Head())", {"Head"}),
        ("m = build(1)\nwrap(m)", {"Head", "Tail"}),
        ("a, b = Head(), Tail()\nwrap(b)", {"Tail"}),
        ("m, tokenizer = build(1)\nwrap(m)", {"?"}),
        ("m = Head()\nwrap(m)\nm = Tail()", {"Head"}),
        ("for m in (Head(), Tail()):\n    wrap(m)", {"Head", "Tail"}),
        ("every = [Head()]\nfor m in every:\n    wrap(m)", {"Head"}),
        ("every = nn.ModuleList([Head()])\nwrap(every[0])", {"Head"}),
        ("every = {'a': Head()}\nfor m in every.values():\n    wrap(m)", {"Head"}),
        ("every = {'a': Head()}\nfor n, m in every.items():\n    wrap(m)", {"Head"}),
        ("for i, m in enumerate([Head()]):\n    wrap(m)", {"Head"}),
        ("for m, n in zip([Head()], [1]):\n    wrap(m)", {"Head"}),
        ("[wrap(m) for m in (Head(),)]", {"Head"}),
        ("every = [Head() for _ in range(2)]\nwrap(every[0])", {"Head"}),
        ("for m in parts():\n    wrap(m)", {"?"}),
        ("for m in (*parts(), Head()):\n    wrap(m)", {"?", "Head"}),
        ("wrap(Head().inner)", {"torch.nn.Linear"}),
        ("wrap(Tail().inner)", {"torch.nn.Linear"}),
        ("wrap(Head().other)", {"?"}),
        ("wrap(spec.model_cls())", {"?"}),
        ("wrap(torch.load('m'))", {"torch.load"}),
        ("wrap(given)", {"?"}),
        ("with Head() as m:\n    wrap(m)", {"?"}),
    ],
)
def test_within_a_function(lines, expected):
    body = "\n".join(f"    {line}" for line in lines.splitlines())
    assert kinds(f"def main(a, spec, parts):\n{body}\n") == expected
    assert kinds(f"{lines}\n") == expected


ATTRIBUTE = """
    class Trainer:
        def __init__(self, VALUE):
            self.model = VALUE
            self.model = self.model.train()
            self.parts = {"a": self.model}
            self.setup()

        def setup(self):
            wrap(USE)
"""


@pytest.mark.parametrize("use", ["self.model", "self.parts['a']", "self.parts.get"])
def test_an_attribute(use):
    source = ATTRIBUTE.replace("USE", use)
    known = {"Head"} if "get" not in use else {"?"}
    assert kinds(source.replace(", VALUE", "").replace("VALUE", "Head()")) == known
    made_elsewhere = source.replace("VALUE", "made") + "\n\n    Trainer(Tail())\n"
    assert kinds(made_elsewhere) == ({"Tail"} if "get" not in use else {"?"})


PARAMETER = """
    def enclose(m):
        wrap(m)


    def main():
        enclose(Head())
        enclose(m=Tail())
"""


def test_a_parameter_is_what_its_callers_give():
    assert kinds(PARAMETER) == {"Head", "Tail"}
    assert kinds(PARAMETER.replace("m=Tail()", "*given")) == {"Head", "?"}
    assert kinds(PARAMETER.partition("def main")[0]) == {"?"}


def test_a_test_gives_no_example():
    alone = PARAMETER.partition("def main")[0]
    call = "from torchtitan.models.mine.parallelize import enclose\n\nenclose(1)\n"
    assert kinds(alone, {"tests/test_it.py": call}) == {"?"}


@pytest.mark.parametrize(
    "annotation, expected",
    [
        ("Head", {"~Head"}),
        ("nn.Sequential", {"~torch.nn.Sequential"}),
        ("nn.Module", {"?"}),
        ("list[Head]", {"?"}),
    ],
)
def test_an_annotation_says_it_where_no_caller_does(annotation, expected):
    alone = PARAMETER.partition("def main")[0].replace("(m)", f"(m: {annotation})", 1)
    assert kinds(alone) == expected


def test_the_model_of_a_plan_is_what_its_specification_says():
    plan = "def parallelize(m, dims, config):\n    wrap(m)\n"
    spec = """
        from torchtitan.heads import Head
        from torchtitan.models.mine.parallelize import parallelize

        SPEC = TrainSpec(KEYWORDS, parallelize_fn=parallelize)
    """
    where = "torchtitan/models/mine/__init__.py"
    for keyword in ("model_cls", "cls"):
        files = {where: spec.replace("KEYWORDS", f"{keyword}=Head")}
        assert kinds(plan, files) == {"Head"}
    assert kinds(plan, {where: spec.replace("KEYWORDS", "name=1")}) == {"?"}


def test_what_is_made_from_itself_ends():
    assert kinds("m = m.train()\nwrap(m)\n") == {"?"}
    loop = "def a(m):\n    b(m)\n\n\ndef b(m):\n    wrap(m)\n    a(m)\n"
    assert kinds(loop) == {"?"}
