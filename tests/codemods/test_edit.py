"""Bytes that are not edited stay as they are, whatever they are."""

import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codemods import edit
from codemods.source import SourceFile, UnreadableSource

from support import (
    APPLY_DDP,
    BASE,
    HERE,
    IMPORT,
    PLAN,
    PLAN_IMPORTS,
    assert_formatted,
    checkout,
    migrated,
    outcome,
    text,
)

FILES = {
    PLAN: f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)


{APPLY_DDP}"""
}
BEFORE = text(
    f"""
    {IMPORT} apply_ddp


    def parallelize(model, world_mesh, job_config):
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        apply_ddp(model, world_mesh, job_config.compile)
        return model
    """
)
AFTER = text(
    f"""
    {IMPORT} apply_replicate


    def parallelize(model, world_mesh, job_config):
        apply_replicate(model, world_mesh["dp_replicate"])
        return model
    """
)


def rewritten(before: bytes) -> bytes:
    result = outcome({**FILES, HERE: before})
    assert result.problems == ()
    return result.changes[HERE]


def test_the_snippet_itself():
    assert rewritten(BEFORE.encode()).decode() == AFTER
    assert_formatted(HERE, BEFORE)
    assert_formatted(HERE, AFTER)


def test_crlf():
    crlf = BEFORE.replace("\n", "\r\n").encode()
    assert rewritten(crlf) == AFTER.replace("\n", "\r\n").encode()


def test_bare_carriage_returns():
    cr = BEFORE.replace("\n", "\r").encode()
    with pytest.raises(UnreadableSource, match="bare carriage returns"):
        outcome({**FILES, HERE: cr})


def test_mixed_line_ends_outside_the_edit_stay():
    tail = b"\n\nFIRST = 1\r\nSECOND = 2\nTHIRD = 3\r\n"
    assert rewritten(BEFORE.encode() + tail) == AFTER.encode() + tail


def test_bom():
    bom = b"\xef\xbb\xbf"
    assert rewritten(bom + BEFORE.encode()) == bom + AFTER.encode()


def test_bom_crlf_and_no_final_newline():
    def odd(source):
        return b"\xef\xbb\xbf" + source.rstrip("\n").replace("\n", "\r\n").encode()

    assert rewritten(odd(BEFORE)) == odd(AFTER)


def test_no_final_newline():
    assert rewritten(BEFORE.rstrip("\n").encode()) == AFTER.rstrip("\n").encode()


def test_no_final_newline_after_a_comment():
    tail = b"\n\n# the end"
    assert rewritten(BEFORE.encode() + tail) == AFTER.encode() + tail


def test_no_final_newline_where_the_last_line_is_the_call():
    cut = "    return model\n"
    before = BEFORE.replace(cut, "").rstrip("\n").encode()
    assert rewritten(before) == AFTER.replace(cut, "").rstrip("\n").encode()


def test_no_final_newline_where_the_last_line_is_the_definition():
    plan = FILES[PLAN].rstrip("\n")
    after = outcome({PLAN: plan}).changes[PLAN]
    assert after.endswith(b'logger.info("Applied replicate to the model")')


@pytest.mark.parametrize("coding", ["latin-1", "iso-8859-15", "cp1252", "utf-8"])
def test_declared_encoding(coding):
    head = f"# -*- coding: {coding} -*-\n# Sch\xf6ne Gr\xfc\xdfe\n"
    before, after = head + BEFORE, head + AFTER
    assert rewritten(before.encode(coding)) == after.encode(coding)


def test_text_that_the_encoding_cannot_hold_is_refused_or_kept():
    """The log line of the plan may hold a character that another file cannot."""
    ddp = APPLY_DDP.replace("to the model", "\u2192 model")
    own = BASE[PLAN].replace(APPLY_DDP, ddp)
    fresh = text(
        f"""
        # coding: latin-1
        import torch.nn as nn
        from torch.distributed.fsdp import fully_shard

        {IMPORT} apply_ddp


        def apply_fsdp(model: nn.Module, dp_mesh):
            fully_shard(model.vision, mesh=dp_mesh)
            fully_shard(model, mesh=dp_mesh)


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"])
            else:
                apply_ddp(model, world_mesh, False)
        """
    )
    from codemods.source import UnreadableSource

    with pytest.raises(UnreadableSource, match="cannot be written"):
        outcome({PLAN: own, HERE: fresh.encode("latin-1")})


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


def test_form_feed():
    before = BEFORE.replace("\n\n\ndef", "\n\n\x0c\ndef")
    assert rewritten(before.encode()).decode() == AFTER.replace(
        "\n\n\ndef", "\n\n\x0c\ndef"
    )


def test_form_feed_and_odd_separators_above_do_not_shift_lines():
    """str.splitlines counts these as line ends; Python does not."""
    head = '"""a\x0cb\x1cc\u2028d\x85e"""\n'
    assert rewritten((head + BEFORE).encode()) == (head + AFTER).encode()


def test_wide_characters_before_the_call_on_its_line():
    before = BEFORE.replace(
        "    apply_ddp(model,", '    x["\u00e4\u6f22\U0001f600"] = apply_ddp(model,'
    )
    after = AFTER.replace(
        "    apply_replicate(model,",
        '    x["\u00e4\u6f22\U0001f600"] = apply_replicate(model,',
    )
    assert rewritten(before.encode()) == after.encode()


def test_wide_characters_in_the_arguments():
    before = BEFORE.replace("apply_ddp(model,", 'apply_ddp(models["\u6f22"],')
    assert (
        'apply_replicate(models["\u6f22"], world_mesh['
        in rewritten(before.encode()).decode()
    )


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


# Imports


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


def test_every_file_of_the_base_survives_parsing_untouched():
    for file in checkout().values():
        assert file.encode(file.tree.code) == file.raw
