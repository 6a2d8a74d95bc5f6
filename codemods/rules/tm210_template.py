"""TM210: the new function comes from a fixed template."""

from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM210"
TITLE = "written from a template"
WHY = """\
Where a checkout has no apply_fsdp, or one that wraps in a way that cannot be followed,
there is nothing to mirror. The template wraps every child of model.layers and then the
root. That trains rightly; embedding and output then communicate with the root, later
than they could. Compare the groups with how your model is built.
"""


def find(facts: Facts) -> Iterator[Finding]:
    yield from facts.reported(CODE)
