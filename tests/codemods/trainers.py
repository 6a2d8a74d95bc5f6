"""A trainer beside a plan, for the rules that are about training code."""

from textwrap import dedent, indent

from support import HERE, IMPORT, findings


def trainer(body: str, head: str = "") -> str:
    """A file that wraps its model, with imports and code of a test's own."""
    return (
        f"{IMPORT} apply_ddp\nimport torch\nimport torch.nn as nn\n{dedent(head)}\n"
        f"{dedent(body)}\n"
        "def build(model, world_mesh):\n    apply_ddp(model, world_mesh, False)\n"
    )


def step(body: str, head: str = "") -> str:
    """The same with a body of a function ``step`` of one class."""
    inner = indent(dedent(body), " " * 8)
    return trainer(f"class Trainer:\n    def step(self, model):\n{inner}\n", head)


def found(source: str, code: str):
    return findings({HERE: source}, code=code)


def lines(source: str, code: str) -> list[str]:
    """The lines that a rule speaks of."""
    return [source.split("\n")[f.line - 1].strip() for f in found(source, code)]
