"""What is written among the lines of a file: in its style, and nothing around it lost."""

import difflib

import libcst as cst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codemods import edit
from codemods.source import SourceFile

from rewriting import AFTER, BEFORE, FILES, rewritten
from support import HERE, PLAN, assert_formatted, migrated, outcome, text


def test_the_snippet_itself():
    assert rewritten(BEFORE.encode()).decode() == AFTER
    assert_formatted(HERE, BEFORE)
    assert_formatted(HERE, AFTER)


def test_tabs():
    assert (
        rewritten(BEFORE.replace("    ", "\t").encode())
        == AFTER.replace("    ", "\t").encode()
    )


def test_two_spaces():
    assert (
        rewritten(BEFORE.replace("    ", "  ").encode())
        == AFTER.replace("    ", "  ").encode()
    )


def test_tabs_in_the_new_function():
    plan = FILES[PLAN].replace("    ", "\t")
    after = migrated({PLAN: plan})[PLAN]
    assert "    " not in after
    assert "\n\treplicate(model, mesh=dp_mesh)\n" in after


def test_trailing_whitespace_and_odd_spacing_elsewhere_stay():
    tail = b"\n\nx   =  [ 1,2 ,3 ]   \n\n\n\n\ndef  f ( a ) :\n  return   a\n"
    assert rewritten(BEFORE.encode() + tail) == AFTER.encode() + tail


def test_line_continuations_elsewhere_stay():
    tail = b"\n\nx = 1 + \\\n    2\n"
    assert rewritten(BEFORE.encode() + tail) == AFTER.encode() + tail


def test_shebang_and_licence_above_the_imports_stay():
    head = b"#!/usr/bin/env python\n# Copyright\n#\n# Licence\n\n"
    assert rewritten(head + BEFORE.encode()) == head + AFTER.encode()


noise = st.sampled_from(
    ["", "# a comment", "# apply_ddp(model, world_mesh)", "#", "# DDP > 1D", "  # odd"]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(noise, max_size=4),
    st.lists(noise, max_size=4),
    st.lists(noise, max_size=4),
)
def test_comments_and_blank_lines_outside_the_edit_are_never_lost(top, middle, end):
    def with_noise(source):
        parts = source.split("\n\n\n")
        body = parts[1].replace(
            "    return model\n",
            "".join(f"    {line.strip()}".rstrip() + "\n" for line in middle)
            + "    return model\n",
        )
        return "\n".join(
            [*top, parts[0], "", "", body.rstrip("\n"), *end, "LAST = 1", ""]
        )

    before, after = with_noise(BEFORE), with_noise(AFTER)
    assert rewritten(before.encode()).decode() == after


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), noise, st.booleans())
def test_a_line_put_anywhere_in_the_plan_outside_apply_ddp_stays(place, line, blank):
    lines = FILES[PLAN].split("\n")
    last = lines.index(next(x for x in lines if x.startswith("def apply_ddp")))
    place = place % last
    extra = [line.strip()] + [""] * blank
    before = "\n".join([*lines[:place], *extra, *lines[place:]])
    result = outcome({PLAN: before})
    assert result.problems == ()
    after = result.changes[PLAN].decode()
    gone = [
        change[2:]
        for change in difflib.ndiff(before.split("\n"), after.split("\n"))
        if change.startswith("- ")
    ]
    untouchable = {x for x in (line.strip(), "def apply_fsdp(") if x}
    assert not untouchable & set(gone)


def imports(before, module, name, alias=None):
    return edit.add_import(
        SourceFile("x.py", text(before).encode()).tree, module, name, alias
    ).code


@pytest.mark.parametrize(
    "before, module, name, after",
    [
        (
            "import torch\nimport torch.nn as nn\n",
            "torch.distributed.fsdp",
            "FSDPModule",
            "import torch\nimport torch.nn as nn\n"
            "from torch.distributed.fsdp import FSDPModule\n",
        ),
        (
            "from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy\n",
            "torch.distributed.fsdp",
            "FSDPModule",
            "from torch.distributed.fsdp import FSDPModule, fully_shard, "
            "MixedPrecisionPolicy\n",
        ),
        (
            "from torch.distributed.fsdp import fully_shard\n",
            "torch.distributed.fsdp",
            "fully_shard",
            "from torch.distributed.fsdp import fully_shard\n",
        ),
        (
            "import os\n\nfrom torchtitan.config import JobConfig\n",
            "torch",
            None,
            "import os\n\nimport torch\n\nfrom torchtitan.config import JobConfig\n",
        ),
        (
            '"""Words."""\n\nfrom torchtitan.config import JobConfig\n',
            "torch",
            None,
            '"""Words."""\n\nimport torch\n\nfrom torchtitan.config import JobConfig\n',
        ),
        (
            "# Licence\n\nfrom torchtitan.config import JobConfig\n",
            "torch",
            None,
            "# Licence\n\nimport torch\n\nfrom torchtitan.config import JobConfig\n",
        ),
        (
            "import torch\n\nfrom .args import Args\n",
            "torchtitan.tools.logging",
            "logger",
            "import torch\n\nfrom torchtitan.tools.logging import logger\n\n"
            "from .args import Args\n",
        ),
        (
            "from __future__ import annotations\n\nimport os\n",
            "torch",
            None,
            "from __future__ import annotations\n\nimport os\n\nimport torch\n",
        ),
    ],
)
def test_add_import(before, module, name, after):
    assert_formatted("torchtitan/x.py", after + "\nx = 1\n")
    assert imports(before, module, name) == after


def test_add_import_beside_a_comment_keeps_it():
    result = imports("import torch  # why\n", "torch.nn", None, "nn")
    assert result == "import torch  # why\nimport torch.nn as nn\n"


def test_a_statement_is_written_as_the_module_it_is_in_has_it():
    one = cst.parse_module("if a:\n    b\n")
    other = one.with_changes(default_indent="\t", default_newline="\r\n")
    assert edit.code_of(one) == "if a:\n    b\n"
    assert edit.code_of(other) == "if a:\r\n\tb\r\n"
