"""TM205: parameters captured before the model is wrapped."""

from textwrap import dedent

import pytest

from support import HERE, IMPORT, findings


def plan(before="pass", after="pass", model="model"):
    return f"""
        {IMPORT} apply_ddp


        def build(self, model, world_mesh, job_config):
            {before}
            apply_ddp({model}, world_mesh, False)
            {after}
    """


@pytest.mark.parametrize(
    "before",
    [
        "optimizer = AdamW(model.parameters())",
        "held = list(model.parameters())",
        "held = dict(model.named_parameters())",
        "self.held = [p for p in model.parameters() if p.requires_grad]",
    ],
)
def test_fires_before_wrapping(before):
    found = findings({HERE: plan(before)}, code="TM205")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 5, "hazard")]
    assert "after line 6" in found[0].suggestion


def test_fires_for_a_model_passed_by_keyword():
    by_keyword = plan("o = AdamW(model.parameters())").replace(
        "(model, world_mesh, False)",
        "(model=model, dp_mesh=world_mesh, enable_compile=False)",
    )
    assert len(findings({HERE: by_keyword}, code="TM205")) == 1


@pytest.mark.parametrize(
    "before",
    [
        "count = sum(p.numel() for p in model.parameters())",
        "device = next(model.parameters()).device",
        "optimizer = AdamW(other.parameters())",
        "names = model.buffers()",
    ],
)
def test_does_not_fire(before):
    assert findings({HERE: plan(before)}, code="TM205") == []


def test_does_not_fire_after_wrapping():
    files = {HERE: plan(after="optimizer = AdamW(model.parameters())")}
    assert findings(files, code="TM205") == []


def test_fires_before_a_plan_is_called():
    trainer = """
        def build(self, model):
            optimizer = AdamW(model.parameters())
            self.spec.parallelize_fn(model, self.dims, self.config)
    """
    found = findings({"torchtitan/train.py": trainer}, code="TM205")
    assert [(f.path, f.line) for f in found] == [("torchtitan/train.py", 2)]


TRAINER = "torchtitan/train_two.py"


def placed(source, **more):
    """Lines of TM205 in a script beside a plan, and in other files by name."""
    source = f"import torch\n{IMPORT} apply_ddp, parallelize_llama\n{dedent(source)}"
    files = {TRAINER: source, **{f"torchtitan/{n}.py": s for n, s in more.items()}}
    return [(f.path, f.line - 2) for f in findings(files, code="TM205")]


METHODS = """
class Trainer:
    def __init__(self, model, pd):
        self.model = model
        {first}
        {second}

    def build(self):
        self.opt = torch.optim.AdamW(self.model.parameters())

    def wrap(self, pd):
        apply_ddp(self.model, pd, False)
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("self.build()", "self.wrap(pd)"),
        ("self.build()", "self.model = parallelize_llama(self.model, pd)"),
        ("self.opt = torch.optim.AdamW(model.parameters())", "self.wrap(pd)"),
        ("self.params = [*self.model.parameters()]", "self.wrap(pd)"),
        ("self.opts = [torch.optim.SGD(model.parameters())]", "self.wrap(pd)"),
        ("setattr(self, 'opt', torch.optim.SGD(model.parameters()))", "self.wrap(pd)"),
        ("self.opt = build_optimizers([self.model], {})", "self.wrap(pd)"),
    ],
)
def test_fires_through_methods_in_the_order_of_their_calls(first, second):
    source = METHODS.format(first=first, second=second)
    assert placed(source) == [(TRAINER, 5)]
    swapped = METHODS.format(first=second, second=first)
    assert placed(swapped) == []


def test_says_what_to_call_after_the_wrapping():
    source = METHODS.format(first="self.build()", second="self.wrap(pd)")
    source = f"{IMPORT} apply_ddp\n{source}"
    (found,) = findings({TRAINER: source}, code="TM205")
    assert found.suggestion == "# after line 7\nself.build()"
    assert found.message.startswith("what self.build() keeps is made from self.model's")


@pytest.mark.parametrize(
    "source",
    [
        """
        def main(pd, actor, critic):
            opt = torch.optim.AdamW([*actor.parameters(), *critic.parameters()])
            for m in (actor, critic):
                parallelize_llama(m, pd)
        """,
        """
        def main(pd, models):
            opts = {k: torch.optim.AdamW(m.parameters()) for k, m in models.items()}
            for k in models:
                models[k] = parallelize_llama(models[k], pd)
        """,
        """
        def main(pd, models):
            opts = [torch.optim.AdamW(m.parameters()) for m in models]
            models = [parallelize_llama(m, pd) for m in models]
        """,
        """
        def main(pd, model):
            opt = torch.optim.AdamW(model.head.parameters())
            apply_ddp(model, pd, False)
        """,
        """
        def main(pd, model, decay):
            for n, p in model.named_parameters():
                decay.append({"params": [p]})
            apply_ddp(model, pd, False)
        """,
        """
        def main(pd, net):
            shadow = {n: p.detach().clone() for n, p in net.named_parameters()}
            for part in [net]:
                apply_ddp(part, pd, False)
        """,
        """
        if __name__ == "__main__":
            opt = torch.optim.AdamW(model.parameters())
            apply_ddp(model, pd, False)
        """,
        """
        class Two:
            def __init__(self, pd):
                self.opt = torch.optim.AdamW(self.image.parameters())
                for name in ("image", "text"):
                    model = parallelize_llama(getattr(self, name), pd)
                    setattr(self, name, model)
        """,
    ],
)
def test_fires_for_several_models_and_what_is_kept_of_them(source):
    line = 3 if "class" not in source else 4
    assert placed(source) == [(TRAINER, line)]


def test_fires_for_a_helper_that_is_given_the_model():
    helper = """
        import torch

        def make(net):
            groups = [{"params": [p for p in net.parameters() if p.ndim > 1]}]
            return torch.optim.AdamW(groups)
    """
    source = """
        from torchtitan.opt import make
        def main(model, pd):
            opt = make(model)
            apply_ddp(model, pd, False)
    """
    assert placed(source, opt=helper) == [(TRAINER, 4)]


def test_fires_for_a_class_that_keeps_parameters_and_an_object_that_wraps():
    source = """
        class Ema:
            def __init__(self, net):
                self.shadow = {n: p.clone() for n, p in net.named_parameters()}

        class Trainer:
            def __init__(self, model):
                self.model = model

            def wrap(self, pd):
                apply_ddp(self.model, pd, False)

        def main(model, pd):
            trainer = Trainer(model)
            average = Ema(model)
            trainer.wrap(pd)
    """
    assert placed(source) == [(TRAINER, 15)]


def test_fires_for_what_a_subclass_does_before_its_base_wraps():
    base = """
        class Base:
            def __init__(self, model, pd):
                self.model = model
                self.prepare()
                apply_ddp(self.model, pd, False)

            def prepare(self):
                pass
    """
    sub = f"""
        import torch
        from {TRAINER[:-3].replace("/", ".")} import Base

        class Sub(Base):
            def prepare(self):
                self.opt = torch.optim.AdamW(self.model.parameters())
    """
    assert placed(base, sub=sub) == [(TRAINER, 5)]


@pytest.mark.parametrize(
    "source",
    [
        # Another model.
        """
        def main(pd, model, probe):
            opt = torch.optim.AdamW(probe.parameters())
            apply_ddp(model, pd, False)
        """,
        """
        def main(pd):
            for size in (1, 2):
                model = Model(size)
                model = parallelize_llama(model, pd)
                opt = torch.optim.AdamW(model.parameters())
        """,
        """
        def main(pd, args):
            model = Model(args)
            opt = torch.optim.AdamW(model.parameters())
            model = Model(args)
            apply_ddp(model, pd, False)
        """,
        """
        def main(pd, models):
            models["a"] = parallelize_llama(models["a"], pd)
            opt = torch.optim.AdamW(models["a"].parameters())
            models["b"] = parallelize_llama(models["b"], pd)
        """,
        # Another run.
        """
        def main(pd, model, plain):
            if plain:
                opt = torch.optim.AdamW(model.parameters())
            else:
                apply_ddp(model, pd, False)
                opt = torch.optim.AdamW(model.parameters())
        """,
        """
        def main(pd, model, plain):
            if plain:
                return torch.optim.AdamW(model.parameters())
            apply_ddp(model, pd, False)
        """,
        """
        def main(pd, model, plain):
            if plain:
                opt = torch.optim.AdamW(model.parameters())
            if not plain:
                apply_ddp(model, pd, False)
        """,
        # Nothing is kept.
        """
        def main(pd, model):
            frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
            shapes = [tuple(p.shape) for p in model.parameters()]
            on = list(model.parameters())[0].device
            big = max(p.numel() for p in model.parameters()) > 10
            for p in model.parameters():
                p.requires_grad_(False)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            apply_ddp(model, pd, False)
        """,
        """
        def count(net):
            return sum(p.numel() for p in net.parameters())

        def main(pd, model):
            number = count(model)
            apply_ddp(model, pd, False)
        """,
    ],
)
def test_does_not_fire_for_another_model_another_run_or_a_number(source):
    assert placed(source) == []
