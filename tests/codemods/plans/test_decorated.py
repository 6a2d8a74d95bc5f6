"""Decorators of apply_ddp: those that fit the new function too, and those that are left."""

import pytest

from rewriting import PLAIN
from support import APPLY_DDP, PLAN, assert_left, findings, migrated

DECORATORS = """\
from torchtitan.tools.registry import REGISTRY

PARALLEL = {}


def register(name):
    def wrap(fn):
        PARALLEL[name] = fn
        return fn

    return wrap


def listed(fn):
    PLANS.append(fn)
    return fn


def logged(*arguments):
    def wrap(fn):
        def inner(*args, **kwargs):
            logger.info([kwargs[name] for name in arguments])
            return fn(*args, **kwargs)

        return inner

    return wrap


def compiled(fn):
    def inner(model, dp_mesh, enable_compile):
        return fn(model, dp_mesh, enable_compile)

    return inner


def signed(fn):
    fn.takes = fn.__code__.co_varnames
    return fn


def timed(what):
    def wrap(fn):
        @wraps(fn)
        def inner(*args, **kwargs):
            start = time.time()
            done = fn(*args, **kwargs)
            logger.info(f"{what}: {fn.__name__}, {time.time() - start}")
            return done

        return inner

    return wrap


def checked(fn):
    def inner(model, dp_mesh, **kwargs):
        assert len(model.layers)
        return fn(model, dp_mesh, **kwargs)

    fn.is_checked = True
    return inner


class Plans:
    def __init__(self, fn):
        self.fn = fn
"""


def decorated(*decorators: str) -> str:
    written = "".join(f"@{decorator}\n" for decorator in decorators)
    plan = PLAIN[PLAN].replace(APPLY_DDP, f"{DECORATORS}\n\n{written}{APPLY_DDP}")
    return f"import acme\n{plan}"


@pytest.mark.parametrize(
    "decorator, reason",
    [
        ('register("ddp")', "keeps it|hands it on"),
        ("listed", "hands it on"),
        ('logged("model")', "reads the arguments"),
        ('timed("enable_compile")', "the name of enable_compile, which goes"),
        ("compiled", "arguments of its own"),
        ("signed", "reads how it is called"),
        ("Plans", "cannot be followed"),
        ('REGISTRY.register("ddp")', "cannot be followed"),
        ('PARALLEL["x"]', "cannot be followed"),
        ('acme.register_plan("ddp")', "may hand the function on"),
    ],
)
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_what_takes_the_function_in_is_left(decorator, reason, target):
    """Who calls it goes on to pass enable_compile, which the new function refuses."""
    left = assert_left(decorated(decorator), reason, path=PLAN, target=target)
    assert left.suggestion.startswith("@")
    assert "replicate(model, " in left.suggestion


@pytest.mark.parametrize(
    "decorators",
    [
        ('timed("wrap")',),
        ("checked",),
        ("torch.no_grad()", "torch._dynamo.disable"),
        ("acme.traced",),
    ],
)
def test_what_calls_it_as_it_is_called_stays(decorators):
    after = migrated({PLAN: decorated(*decorators)})[PLAN]
    written = "".join(f"@{decorator}\n" for decorator in decorators)
    assert f"{written}def apply_replicate(model: nn.Module" in after


def test_an_opt_out_is_heard():
    plan = decorated('register("ddp")  # titan-migrate: ignore[TM101]')
    found = findings({PLAN: plan}, code="TM101")
    assert {f.status for f in found} == {"rewrite", "opted-out"}
