"""What makes up for DDP's average: in which spellings it is seen, and what is none of it."""

from textwrap import dedent, indent

import pytest

from support import (
    APPLY_DDP,
    APPLY_FSDP,
    LOOP_MESHES,
    PLAN,
    PLAN_IMPORTS,
    findings,
    migrated,
    text,
)

SUMS = {
    PLAN: f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}    model.set_gradient_divide_factor(1.0)\n"
    f"\n\n{APPLY_DDP}"
}
MAIN, UTILS = "torchtitan/train.py", "torchtitan/distributed/utils.py"
PURE = "pd.dp_replicate_enabled and not pd.fsdp_enabled"


def trainer(step: str, *, rest: str = "", init: str = "", head: str = "") -> str:
    """A trainer of all plans with lines of its own; ``HERE`` ends the line that is meant."""

    def put(code: str, depth: int) -> str:
        return indent(dedent(code).strip("\n"), " " * depth) + "\n"

    return (
        "import torch\nfrom torchtitan.distributed import utils\n"
        f"{dedent(head)}\n\nclass Trainer:\n"
        "    def __init__(self, spec, parallel_dims):\n"
        "        pd = parallel_dims\n"
        f"        self.model = spec.parallelize_fn(make(), pd)\n{put(init, 8)}\n"
        f"    def step(self, batch):\n        pd = self.parallel_dims\n{put(step, 8)}"
        f"        self.optimizer.step()\n\n{put(rest, 4)}"
    )


def places(source: str, files=None) -> tuple[list[int], list[int]]:
    """The lines that are found to make up for DDP, and those that say so."""
    made = {**SUMS, MAIN: source, **(files or {})}
    found = [
        (f.path, f.line)
        for f in findings(made, code="TM209")
        if "may make up" in f.message
    ]
    wanted = [
        (path, number)
        for path, source in made.items()
        for number, line in enumerate(text(source).split("\n"), 1)
        if line.endswith("# HERE")
    ]
    return sorted(found), sorted(wanted)


BACKWARD = "loss.backward()"
DIVIDED = "loss = self.loss_sum(batch) / self.global_tokens"


def step(*lines: str) -> str:
    return "\n".join([DIVIDED, *lines, BACKWARD])


@pytest.mark.parametrize(
    "body",
    [
        step(f"if {PURE}:  # HERE", "    loss = loss * pd.dp_replicate"),
        step("loss = loss * pd.dp_replicate  # HERE"),
        "loss = entropy(batch) * self.parallel_dims.dp_replicate  # HERE\n" + BACKWARD,
        step("loss *= self.parallel_dims.dp_replicate  # HERE"),
        step("loss = pd.dp_replicate * loss  # HERE"),
        step("loss.mul_(float(pd.dp_replicate))  # HERE"),
        step("loss = torch.mul(loss, pd.dp_replicate)  # HERE"),
        step("loss = loss * (pd.dp_replicate if not pd.fsdp_enabled else 1)  # HERE"),
        step(
            "mesh = pd.get_mesh('dp_replicate')",
            "loss = loss * mesh.size()  # HERE",
        ),
        step("degree = max(pd.dp_replicate, 1)", "loss = loss * degree  # HERE"),
        step(
            f"ddp_alone = {PURE}", "if ddp_alone:  # HERE", "    loss *= self.dp_degree"
        ),
        step("if pd.fsdp_enabled:  # HERE", "    loss = loss / self.dp_degree"),
        step("if self.is_ddp():  # HERE", "    loss *= self.dp_degree"),
        step("if cfg.strategy == 'ddp':  # HERE", "    loss = loss * world_size"),
        step(
            "if pd.dp_replicate == world_size:  # HERE",
            "    loss = loss * torch.distributed.get_world_size()",
        ),
        step(
            "if cfg.data_parallel_shard_degree == 1:  # HERE", "    loss *= world_size"
        ),
        step(
            f"scale = pd.dp_replicate if {PURE} else 1  # HERE",
            "loss = loss * scale  # HERE",
        ),
        step(
            "scale = 1.0",
            f"if {PURE}:  # HERE",
            "    scale = self.batch_mesh.size()",
            "loss = loss * scale",
        ),
        "tokens = self.global_tokens / pd.dp_replicate  # HERE\n"
        "loss = self.loss_sum(batch) / tokens\n" + BACKWARD,
        "loss = self.loss_sum(batch) / (self.global_tokens / pd.dp_replicate)  # HERE\n"
        + BACKWARD,
        "tokens = self.global_tokens // pd.dp_replicate  # HERE\n"
        "loss = self.loss_sum(batch).div(tokens)\n" + BACKWARD,
        "if pd.fsdp_enabled:  # HERE\n    tokens = total(batch)\n"
        "else:\n    tokens = mean(batch)\n"
        "loss = self.loss_sum(batch) / tokens\n" + BACKWARD,
    ],
)
def test_the_loss(body):
    found, wanted = places(trainer(body))
    assert found == wanted and wanted


@pytest.mark.parametrize(
    "line",
    [
        "torch._foreach_mul_(grads, pd.dp_replicate)  # HERE",
        "[p.grad.mul_(pd.dp_replicate) for p in parameters]  # HERE",
        f"for p in parameters if {PURE} else ():\n    p.grad *= pd.dp_replicate  # HERE",
        f"if {PURE}:  # HERE\n    for p in parameters:\n        p.grad *= world_size",
        f"if {PURE}:  # HERE\n    self.rescale_gradients()",
        f"if {PURE}:  # HERE\n    max_norm = max_norm / 2",
        "clip(parameters, self.max_norm / pd.dp_replicate)  # HERE",
        "grad_norm = clip(parameters) * pd.dp_replicate  # HERE",
    ],
)
def test_gradients(line):
    found, wanted = places(trainer(f"{step()}\n{line}"))
    assert found == wanted and wanted


def test_a_method_that_is_called_for_it():
    rest = """
        def _once_more(self, degree):
            for p in self.model.parameters():
                p.grad.mul_(degree)
    """
    call = "self._once_more(self.parallel_dims.dp_replicate)  # HERE"
    found, wanted = places(trainer(f"{step()}\n{call}", rest=rest))
    assert found == wanted and wanted
    call = "if not pd.fsdp_enabled:  # HERE\n    self._once_more(self.degree)"
    found, wanted = places(trainer(f"{step()}\n{call}", rest=rest))
    assert found == wanted and wanted


def test_a_method_that_gives_the_loss():
    rest = f"""
        def scaled_loss(self, pd, loss):
            if {PURE}:  # HERE
                return loss * self.count
            return loss
    """
    found, wanted = places(
        trainer(step("loss = self.scaled_loss(pd, loss)"), rest=rest)
    )
    assert found == wanted and wanted
    init = "self.loss_fn = lambda a, b: entropy(a, b) * pd.dp_replicate  # HERE"
    found, wanted = places(trainer(step(), init=init))
    assert found == wanted and wanted


def test_it_is_still_named_once_the_rest_is_migrated():
    files = {**SUMS, MAIN: trainer(step("loss = loss * pd.dp_replicate  # HERE"))}
    after = {**files, **migrated(files)}
    assert "apply_ddp" not in after[PLAN]
    found, wanted = places(after[MAIN], {PLAN: after[PLAN]})
    assert found == wanted and wanted


def test_an_attribute_that_was_set_before():
    init = f"self.loss_scale = pd.dp_replicate if {PURE} else 1  # HERE"
    found, wanted = places(trainer(step("loss = loss * self.loss_scale"), init=init))
    assert found == wanted and wanted


@pytest.mark.parametrize(
    "body",
    [
        """\
        if pd.fsdp_enabled:  # HERE
            return tokens
        return tokens / self.ranks
        """,
        "return tokens / pd.dp_replicate  # HERE",
        "return tokens if pd.fsdp_enabled else tokens / pd.ranks  # HERE",
    ],
)
def test_a_function_of_another_module(body):
    helper = f"def loss_denominator(pd, tokens):\n{indent(dedent(body), '    ')}\n"
    body = (
        "loss = self.loss_sum(batch) / utils.loss_denominator(pd, self.global_tokens)"
    )
    found, wanted = places(trainer(f"{body}\n{BACKWARD}"), {UTILS: helper})
    assert found == wanted and wanted


def test_a_property_of_ParallelDims():
    dims = "torchtitan/distributed/parallel_dims.py"
    added = f"""{LOOP_MESHES}
    @property
    def alone(self):
        return self.dp_replicate > 1 and self.dp_shard * self.cp == 1
"""
    body = step("if pd.alone:  # HERE", "    loss *= self.ranks_of_data.size")
    found, wanted = places(trainer(body), {dims: added})
    assert found == wanted and wanted


@pytest.mark.parametrize(
    "body",
    [
        step(),
        step("if pd.dp_enabled:", "    loss = loss * world_size"),
        step("if pd.dp_replicate_enabled or pd.dp_shard_enabled:", "    loss *= 1"),
        step("if pd.tp_enabled:", "    loss = loss * self.tp_degree"),
        step("self.rate = self.tokens_seen * pd.dp_replicate"),
        step("batch_size = self.local_batch_size * pd.dp_replicate"),
        step(f"if {PURE}:", "    self.logger.info(loss)"),
        step(f"if {PURE}:", "    self.label = 'replicated'"),
        f"{step()}\nif {PURE}:\n    loss = loss.detach()\n    mean = dist_mean(loss)",
        f"{step()}\nloss = loss / pd.dp_replicate",
        f"{step()}\nself.lr = self.lr * pd.dp_replicate",
        f"{step()}\nfor p in parameters:\n    p.register_hook(lambda grad: grad * pd.dp_replicate)",
    ],
)
def test_what_makes_up_for_nothing(body):
    assert places(trainer(body)) == ([], [])


def test_nothing_is_to_go_where_gradients_are_averaged():
    """There it goes on making up for an average that is still made."""
    source = trainer(
        "loss = self.loss(batch) * self.parallel_dims.dp_replicate\n" + BACKWARD
    )
    assert findings({MAIN: source}, code="TM209") == []


@pytest.mark.parametrize(
    "body",
    [
        step("loss = loss * self.dp_degree"),
        step("loss = loss * pd.dp_replicate * pd.dp_shard"),
        step("if world_size > 1:", "    loss *= world_size"),
        "degree = pd.dp_replicate * pd.dp_shard\n"
        "loss = self.loss_sum(batch) * degree / self.global_tokens\n" + BACKWARD,
        "loss = self.loss_sum(batch) / (self.global_tokens / self.dp_degree)\n"
        + BACKWARD,
        "loss = self.loss_sum(batch) * mesh.size() / self.global_tokens\n" + BACKWARD,
    ],
)
def test_a_loop_that_makes_up_for_all_is_averaged(body):
    """Under FSDP too: it is no loop that wants sums."""
    source = trainer(body)
    assert findings({MAIN: source}, code="TM209") == []
    (found,) = findings({**SUMS, MAIN: source}, code="TM209")
    assert "divides by no global token count or makes up for that" in found.message


def test_what_to_write_instead():
    def suggested(*lines):
        made = {**SUMS, MAIN: trainer(step(*lines))}
        return [
            f.suggestion
            for f in findings(made, code="TM209")
            if "may make up" in f.message
        ]

    assert suggested("loss = loss * pd.dp_replicate") == [
        "# take it out:\n# loss = loss * pd.dp_replicate"
    ]
    assert suggested("loss = 2 * loss * pd.dp_replicate") == ["loss = 2 * loss"]
    assert suggested("loss = loss / (2 if pd.fsdp_enabled else 1)") == [
        "loss = loss / 2"
    ]
    assert suggested("if self.parallel_dims.fsdp_enabled:", "    loss = loss / 2") == [
        "if self.parallel_dims.fsdp_enabled or self.parallel_dims.dp_replicate_enabled:"
        "  # replicate as FSDP"
    ]
    assert suggested(
        "if not pd.fsdp_enabled:", "    loss *= 2", "else:", "    pass"
    ) == [
        "if False:  # not pd.fsdp_enabled: take this branch out, replicate goes the other way"
    ]
