"""The layout of the code that is written, held against the real black."""

import ast
import os
from dataclasses import replace

import black
import libcst as cst
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from codemods import layout
from codemods.engine import migrate
from codemods.mirror import Wishes, derive
from codemods.targets import choose_target

from support import APPLY_DDP, HERE, IMPORT, PLAN, PLAN_IMPORTS, checkout

EXAMPLES = int(os.environ.get("LAYOUT_EXAMPLES", 200))


def as_black(source, width=88):
    mode = black.Mode(line_length=width)
    try:
        return black.format_file_contents(source, fast=True, mode=mode)
    except black.NothingChanged:
        return source


# Whole migrations of what black has formatted

words = st.integers(1, 24).map(lambda n: ("ab_c" * 6)[:n] + "d")
dotted = st.lists(words, min_size=1, max_size=3).map(".".join)
literals = st.one_of(
    words.map('"{}"'.format),
    words.map('f"{{{0}}} of {{{0}.x!r}}"'.format),
    st.sampled_from(["None", "1", "0.5", "-1"]),
)


def operand(expression):
    """An expression as a part of another, in brackets where it needs them, once."""
    node = ast.parse(expression, mode="eval").body
    if isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List)):
        return expression
    if expression[0] == "(" and ast.get_source_segment(expression, node) != expression:
        return expression
    return f"({expression})"


def _composed(inner):
    several = st.lists(inner, min_size=1, max_size=4).map(", ".join)
    plain = st.one_of(dotted, inner.map(operand))
    comparison = st.sampled_from(["is", "is not", "==", "in", "not in", ">"])
    operator = st.sampled_from(["+", "*", "-", "and", "or", "|", "//"])
    return st.one_of(
        several.map("[{}]".format),
        several.map("({},)".format),
        st.builds("{}({})".format, dotted, several),
        st.builds("{}({}={}, **{})".format, dotted, words, inner, dotted),
        st.builds("{}.{}({}).{}({})".format, dotted, words, inner, words, several),
        st.builds("{}[{}]".format, dotted, inner),
        st.builds("{}[{}, {}]".format, dotted, inner, inner),
        st.builds("{{{}: {}, {}: {}}}".format, literals, inner, literals, inner),
        st.builds("{} {} {}".format, plain, comparison, plain),
        st.builds("{} {} {}".format, plain, operator, plain),
        plain.map("not {}".format),
        st.builds("{} if {} else {}".format, plain, plain, inner),
        st.builds("lambda {}: {}".format, words, inner),
        st.builds("[{0} for {0} in {1} if {2}]".format, words, plain, plain),
        st.builds("{}(\n# why\n{})".format, dotted, inner),
    )


expressions = st.recursive(st.one_of(dotted, literals), _composed, max_leaves=9)
conditions = st.lists(
    st.one_of(expressions, st.just("(ep_degree == 1)")), min_size=1, max_size=3
).map(lambda terms: " and ".join(map(operand, terms)))

config = st.sampled_from(["**fsdp_config", "mesh=dp_mesh, reshard_after_forward=True"])
groups = st.lists(expressions, min_size=1, max_size=5).map(
    lambda modules: f"[{', '.join(modules)}]"
)
simple = st.one_of(
    st.builds("fully_shard({}, {})".format, st.one_of(groups, expressions), config),
    st.builds("fsdp_{} = {}".format, words, expressions),
    st.builds("model.{}({})".format, words, expressions),
    st.builds("model.{}({})  # why not".format, words, expressions),
    st.builds("model.{} = {}".format, words, expressions),
    st.builds("raise ValueError({})".format, expressions),
    st.builds("model.{} += {}".format, words, expressions),
    st.builds("fsdp_config[{}] = {}".format, literals, expressions),
)


def _held(inner):
    body = st.lists(inner, min_size=1, max_size=2).map(
        lambda lines: layout.indented("\n".join(lines), 1)
    )
    return st.one_of(
        st.builds("if {}:\n{}".format, conditions, body),
        st.builds(
            "if {}:\n{}\nelif {}:\n{}".format, conditions, body, conditions, body
        ),
        st.builds("for {} in {}:\n{}".format, words, expressions, body),
        st.builds("with {}({}) as {}:\n{}".format, dotted, expressions, words, body),
    )


statements = st.recursive(simple, _held, max_leaves=3)

PLAN_FILE = f"""{PLAN_IMPORTS}

def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype, ep_degree=1):
    fsdp_config = {{"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy()}}
%s
    fully_shard(model, **fsdp_config)


{APPLY_DDP}"""

CALLING = f"""
{IMPORT} apply_ddp, apply_fsdp


def parallelize(model, parallel_dims, world_mesh, job_config):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, world_mesh, param_dtype={{0}}, reduce_dtype={{1}})
    elif parallel_dims.dp_replicate_enabled:
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        {{2}} = apply_ddp(model, world_mesh, enable_compile={{1}})


def maybe_enable_amp(parallel_dims):
    if parallel_dims.fsdp_enabled or ({{0}}):
        return contextlib.nullcontext()
    return torch.autocast("cuda", enabled=({{1}}) and not parallel_dims.fsdp_enabled)
"""


thorough = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
bodies = st.lists(statements, min_size=1, max_size=3).map(
    lambda lines: layout.indented("\n".join(lines), 1)
)
widths = st.sampled_from([88, 88, 120, 79])


def clean(source, width):
    """``source`` as black leaves it; of a few it makes what it would change again."""
    done = as_black(source, width)
    assume(done == as_black(done, width))
    return done


@settings(thorough, max_examples=EXAMPLES)
@given(bodies, widths)
def test_a_mirror_beside_what_black_left_alone(body, width):
    before = clean(PLAN_FILE % body, width)
    tree = cst.parse_module(before)
    apply_fsdp = next(n for n in tree.body if isinstance(n, cst.FunctionDef))
    wishes = Wishes("apply_replicate", "mesh", frozenset({"fully_shard"}), False)
    plan = derive(tree, apply_fsdp, wishes)
    after = layout.laid_out(before, f"{before}\n\n{plan.text}\n", width)
    assert after == as_black(after, width)
    assert after.startswith(before)


@settings(thorough, max_examples=EXAMPLES // 15)
@given(bodies, st.tuples(expressions, expressions, dotted), widths)
def test_what_black_left_alone_it_leaves_alone_after(body, values, width):
    files = {
        PLAN: clean(PLAN_FILE % body, width),
        HERE: clean(CALLING.format(*values), width),
    }
    target = replace(choose_target("1d", None), width=width)
    result = migrate(checkout(files), target)
    for path, raw in result.changes.items():
        after = raw.decode()
        assert after == as_black(after, width), path


# The parts


def test_a_group_that_is_put_together():
    """As FSDP of 0.2.2 trains tied embeddings on torch 2.12 and later."""
    tied = "model.output.weight is model.tok_embeddings.weight"
    plan = as_black(
        PLAN_FILE
        % f"""
    if model.tok_embeddings is not None and not ({tied}):
        fully_shard(model.tok_embeddings, **fsdp_config)
    if model.norm is not None and model.output is not None:
        fully_shard(
            [model.norm, model.output] + ([model.tok_embeddings] if {tied} else []),
            **fsdp_config,
            reshard_after_forward=True,
        )
"""
    )
    after = migrate(checkout({PLAN: plan}), choose_target("1d", None)).changes[PLAN]
    new = after.decode()[after.decode().index("def apply_replicate") :]
    assert (
        """\
    if model.tok_embeddings is not None and not (
        model.output.weight is model.tok_embeddings.weight
    ):
        replicate(model.tok_embeddings, **replicate_config)
    if model.norm is not None and model.output is not None:
        replicate(
            [model.norm, model.output]
            + (
                [model.tok_embeddings]
                if model.output.weight is model.tok_embeddings.weight
                else []
            ),
            **replicate_config,
        )
"""
        in new
    )


@pytest.mark.parametrize(
    "before, after, laid",
    [
        pytest.param(
            "x = f(a)", "x = f(%s, b)", "x = f(\n    %s, b\n)", id="black's before"
        ),
        pytest.param(
            "x = f(a,\n      b)",
            "x = f(a + 1,\n      b)",
            "x = f(a + 1,\n      b)",
            id="another hand's before",
        ),
        pytest.param(
            "x = f( a )", "x = f(%s, b)", "x = f(\n    %s, b\n)", id="a line too long"
        ),
        pytest.param(
            "y=1\nx = f(a)",
            "y=1\nx = f(%s, b)",
            "y=1\nx = f(\n    %s, b\n)",
            id="beside",
        ),
        pytest.param(
            "def f(a,\n      b):\n    g(a,\n      b)",
            "def f(a,\n      b):\n    g(a,\n      b)\n\n\ndef h(a,\n      b):\n    g(a,\n      b)",
            "def f(a,\n      b):\n    g(a,\n      b)\n\n\ndef h(a,\n      b):\n    g(a,\n      b)",
            id="a new function as those above",
        ),
        pytest.param("x = f('a')", "x = f('%s')", "x = f(\n    '%s'\n)", id="quotes"),
        pytest.param(
            "a = (\n    1); b = f(a)",
            "a = (\n    2); b = f(%s, b)",
            "a = (\n    2); b = f(%s, b)",
            id="two on a line",
        ),
        pytest.param(
            "match x:\n    case 1:\n        f(a)",
            "match x:\n    case 1:\n        f(%s)",
            "match x:\n    case 1:\n        f(\n            %s\n        )",
            id="a match",
        ),
        pytest.param("x = 1", "x = (", "x = (", id="no Python"),
    ],
)
def test_only_what_was_in_the_layout_of_black_gets_it(before, after, laid):
    long = "a" * 81
    wanted = laid.replace("%s", long)
    assert layout.laid_out(before, after.replace("%s", long)) == wanted


def test_line_ends_stay():
    long = "a" * 85
    before, after = "x = f(a)\r\n", f"x = f({long})\r\n"
    assert layout.laid_out(before, after) == f"x = f(\r\n    {long}\r\n)\r\n"
    mixed = f"y = 1\n{after}"
    assert layout.laid_out(f"y = 1\n{before}", mixed) == mixed


@pytest.mark.parametrize("indent", ["\t", "  "])
def test_steps_of_indentation_stay(indent):
    long = "a" * 85
    before, after = f"if x:\n{indent}f(a)\n", f"if x:\n{indent}f({long})\n"
    laid = f"if x:\n{indent}f(\n{indent * 2}{long}\n{indent})\n"
    assert layout.laid_out(before, after, indent=indent) == laid


def test_the_line_is_as_long_as_the_checkout_has_it():
    call = f"f({'a' * 95})"
    assert layout.laid_out("f(a)", call, width=100) == call
    assert layout.laid_out("f(a)", call, width=96).count("\n") == 2


def test_what_is_all_the_same_is_not_laid_out():
    source = "x = f( a )\ny = [1,2]\n"
    assert layout.laid_out(source, source) == source
    assert layout.laid_out(source, source + "z = 1\n") == source + "z = 1\n"


@pytest.mark.parametrize(
    "before, after",
    [
        ("model", "model"),
        ("f(\n    a,\n    b,\n)", "f(a, b)"),
        ("[\n    a,\n]", "[a]"),
        ("(\n    a,\n)", None),
        ("(\n    a\n    or b\n)", "(a or b)"),
        ("f(\n    # why\n    a,\n)", "f(\n    # why\n    a,\n)"),
        ('f("""\n  text""")', 'f("""\n  text""")'),
        ('f("a, )" ,\n  b)', None),
        ("{\n    'a': [\n        1,\n    ],\n}", "{'a': [1]}"),
        ("x[\n    'dp_replicate',\n]", None),
    ],
)
def test_flatten_keeps_the_meaning(before, after):
    flat = layout.flatten(before)
    assert after in (None, flat)
    assert ast.dump(ast.parse(flat, mode="eval")) == ast.dump(
        ast.parse(before, mode="eval")
    )


def test_indented_leaves_blank_lines_bare():
    assert layout.indented("a\n\nb", 1) == "    a\n\n    b"


def test_indented_leaves_strings_alone():
    """A line inside a triple-quoted string is content, not layout."""
    text = 'raise ValueError(\n    """one\ntwo"""\n)'
    assert 'two"""' in layout.indented(text, 1).split("\n")
