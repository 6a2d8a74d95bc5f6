"""Files are read as Python reads them, and bytes that are not edited stay as they are."""

import pytest

from codemods.source import UnreadableSource

from rewriting import AFTER, BEFORE, FILES, rewritten
from support import APPLY_DDP, BASE, HERE, IMPORT, PLAN, checkout, outcome, text


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


def test_every_file_of_the_base_survives_parsing_untouched():
    for file in checkout().values():
        assert file.encode(file.tree.code) == file.raw


@pytest.mark.parametrize(
    "content, line, reason",
    [
        (b"def apply_ddp(:\n    pass\n", 1, "does not parse"),
        (b"x = 1\nif apply_ddp\n", 2, "does not parse"),
        (b"apply_ddp = '\xff'\n", 1, "encoding"),
        (b"# coding: nonsense\napply_ddp\n", 1, "unknown encoding"),
        (b"apply_ddp = 1\n\x00\n", None, "null|does not parse"),
        (b"from x import apply_ddp\nprint 'two'\n", 2, "does not parse"),
        (b"def f():\n\tapply_ddp\n        x\n", 3, "does not parse"),
    ],
    ids=[
        "syntax",
        "later line",
        "bytes",
        "coding",
        "null",
        "python 2",
        "tabs and spaces",
    ],
)
def test_a_file_that_matters_and_cannot_be_read_is_named(content, line, reason):
    with pytest.raises(UnreadableSource, match=reason) as raised:
        outcome({HERE: content})
    assert raised.value.path == HERE
    assert str(raised.value).startswith(f"{HERE}:{line}: " if line else f"{HERE}")
    assert line is None or raised.value.line == line
