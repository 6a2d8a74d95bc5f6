"""The layout of the code that is written, held against the real black."""

import black
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codemods import layout

names = st.integers(1, 40).map(lambda n: ("ab_c" * 10)[:n])
dotted = st.lists(names, min_size=1, max_size=3).map(".".join)
strings = names.map('"{}"'.format)
values = st.one_of(
    dotted,
    strings,
    st.builds("{}[{}]".format, dotted, strings),
    st.builds("{}({})".format, dotted, names),
    st.builds("{}[{}.{}]".format, names, names, dotted),
)
keywords = st.builds("{}={}".format, names, values)
calls = st.lists(values, max_size=3).flatmap(
    lambda first: st.lists(
        keywords, max_size=4, unique_by=lambda k: k.split("=")[0]
    ).map(lambda last: [*first, *last])
)


def nested(text, depth):
    """``text`` as the body of ``depth`` blocks."""
    heads = "".join(f"{layout.INDENT * d}if x:\n" for d in range(depth))
    return heads + layout.indented(text, depth) + "\n"


def assert_as_black(text, depth):
    source = nested(text, depth)
    try:
        wanted = black.format_file_contents(source, fast=True, mode=black.Mode())
    except black.NothingChanged:
        wanted = source
    assert source == wanted


@settings(max_examples=150, deadline=None)
@given(dotted, calls.filter(bool), st.integers(0, 6))
def test_calls(name, items, depth):
    assert_as_black(layout.bracketed(f"{name}(", items, ")", depth=depth), depth)


@settings(max_examples=60, deadline=None)
@given(dotted, calls.filter(bool), st.integers(0, 4))
def test_calls_with_a_magic_trailing_comma(name, items, depth):
    text = layout.bracketed(f"{name}(", items, ")", depth=depth, exploded=True)
    assert_as_black(text, depth)


@settings(max_examples=60, deadline=None)
@given(names, calls, st.integers(0, 4))
def test_dictionaries_and_assignments(name, items, depth):
    assert_as_black(layout.bracketed(f"{name} = dict(", items, ")", depth=depth), depth)


@settings(max_examples=60, deadline=None)
@given(
    names,
    # A new function always takes a model and a mesh.
    st.lists(
        st.builds("{}: {}".format, names, dotted),
        min_size=2,
        max_size=6,
        unique_by=lambda p: p.split(":")[0],
    ),
    st.sampled_from(["):", ") -> None:", ") -> nn.Module:"]),
)
def test_signatures(name, parameters, tail):
    text = layout.bracketed(f"def {name}(", parameters, tail, depth=0)
    assert_as_black(f"{text}\n    pass", 0)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([("if ", ":"), ("elif ", ":"), ("tied = ", "")]),
    st.lists(
        st.one_of(
            dotted,
            dotted.map("{} is not None".format),
            st.builds("{}.weight is {}.weight".format, dotted, dotted),
            dotted.map("not {}".format),
        ),
        min_size=2,
        max_size=5,
    ),
    st.integers(0, 4),
)
def test_conjunctions(ends, terms, depth):
    # A single term too long for a line would be broken inside; none is ever written.
    assume(all(len(term) + 4 * depth + 8 <= layout.WIDTH for term in terms))
    # See the test below.
    joined = " and ".join(terms)
    fits_whole = len(ends[0] + joined + ends[1]) + 4 * depth <= layout.WIDTH
    assume(fits_whole or len(joined) + 4 * (depth + 1) > layout.WIDTH)
    text = layout.conjunction(ends[0], terms, ends[1], depth=depth)
    if ends[0] == "elif ":
        text = f"if x:\n    pass\n{text}\n    pass"
    elif ends[1]:
        text = f"{text}\n    pass"
    assert_as_black(text, depth)


@pytest.mark.parametrize("head, tail", [("elif ", ":"), ("weights_tied = ", "")])
def test_conjunction_that_fits_on_one_line_inside_the_brackets(head, tail):
    terms = ["a" * 40, "b" * 39]
    text = layout.conjunction(head, terms, tail, depth=0)
    assert text == f"{head}(\n    {' and '.join(terms)}\n){tail}"


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
    import ast

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


def test_an_item_is_broken_at_the_bracket_that_closes_last():
    extra = "([model.tok_embeddings] if model.output.weight is model.tied else [])"
    items = [f"[model.norm, model.output] + {extra}", "**replicate_config"]
    assert_as_black(layout.bracketed("replicate(", items, ")", depth=2), 2)


lists = st.recursive(
    dotted,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=6).map(
            lambda items: f"[{', '.join(items)}]"
        ),
        st.builds("{}({})".format, names, inner),
        st.builds("[b for b in {}.values() if b.{}]".format, names, names),
    ),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(lists, min_size=1, max_size=4), st.integers(0, 4))
def test_lists_in_lists(items, depth):
    assert_as_black(layout.bracketed("replicate(", items, ")", depth=depth), depth)


def test_a_list_of_modules_too_long_for_its_line():
    modules = [f"model.decoder.blocks.part_{n}.projection" for n in range(4)]
    items = [f"[model.MP, {', '.join(modules)}, model.head]", "**replicate_config"]
    text = layout.bracketed("replicate(", items, ")", depth=1)
    assert text.count("\n") == 10
    assert_as_black(text, 1)
