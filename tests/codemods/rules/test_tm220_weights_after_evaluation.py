"""TM220: weights used while they are still as an evaluation left them."""

import pytest

from trainers import found, lines, trainer

EMA = """
class Ema:
    def update(self, model):
        for mean, p in zip(self.mean, model.parameters()):
            mean.lerp_(p, 0.1)

    def counted(self, model):
        return sum(p.numel() for p in model.parameters())


"""


def with_ema(body):
    return trainer(EMA + body)


AFTER = """
class Trainer:
    def __init__(self):
        self.ema = Ema()

    @torch.no_grad()
    def validate(self):
        return self.model(self.batch)

    def train(self):
        {before}
        self.validate()
        {after}
        self.ema.update(self.model)
"""


def test_an_average_after_a_validation():
    source = with_ema(AFTER.format(before="pass", after="pass"))
    assert lines(source, "TM220") == ["mean.lerp_(p, 0.1)"]
    (one,) = found(source, "TM220")
    assert one.severity == "silent" and "module.reshard()" in one.suggestion
    assert (
        f":{source.split(chr(10)).index('        return self.model(self.batch)') + 1},"
        in one.message
    )


@pytest.mark.parametrize(
    "after",
    ["self.loss().backward()", "reshard_all(self.model)", "self.model.reshard()"],
)
def test_what_settles_weights(after):
    assert lines(with_ema(AFTER.format(before="pass", after=after)), "TM220") == []


def test_an_average_before_a_validation_is_fine():
    body = AFTER.format(before="self.ema.update(self.model)", after="return")
    body = body.rpartition("        self.ema")[0]
    assert lines(with_ema(body), "TM220") == []


def test_the_next_turn_of_a_loop_counts():
    body = """
        def train(model, ema: Ema):
            ema = Ema()
            for batch in batches:
                for p in model.parameters():
                    p.clamp_(-1, 1)
                model(batch).backward()
                with torch.inference_mode():
                    model(batch)
    """
    assert lines(trainer(body), "TM220") == ["p.clamp_(-1, 1)"]


@pytest.mark.parametrize(
    "use, fires",
    [
        ("p.data.mul_(0.5)", True),
        ("kept.append(p.detach().clone())", True),
        ("total += p.norm()", True),
        ("torch.nn.init.zeros_(p)", True),
        ("p.grad.mul_(0.5)", False),
        ("total += p.numel()", False),
        ("kept.append(p)", False),
        ("p.requires_grad_(False)", False),
        ("state[p] = 1", False),
    ],
)
def test_which_uses_of_a_parameter_count(use, fires):
    body = f"""
        def train(model):
            with torch.no_grad():
                model(batch)
            for name, p in model.named_parameters():
                {use}
    """
    assert lines(trainer(body), "TM220") == ([use] if fires else [])


def test_a_context_that_swaps_weights_around_a_validation():
    body = """
        @contextmanager
        def swapped(model, mean):
            with torch.no_grad():
                kept = [p.clone() for p in model.parameters()]
            yield
            for p, old in zip(model.parameters(), kept):
                p.data.copy_(old)


        def validate(model):
            with swapped(model, mean):
                with torch.no_grad():
                    model(batch)
    """
    assert lines(trainer(body), "TM220") == ["p.data.copy_(old)"]


@pytest.mark.parametrize(
    "evaluation",
    [
        "self.teacher_model(batch)",
        "self.encoder(batch)",
        "sample(batch)",
    ],
)
def test_another_model_is_not_the_trained_one(evaluation):
    body = f"""
        def train(self, model):
            with torch.no_grad():
                {evaluation}
            for p in model.parameters():
                p.clamp_(-1, 1)
    """
    assert lines(trainer(body), "TM220") == []


def test_one_branch_does_not_come_before_the_other():
    body = """
        def step(model, training):
            if not training:
                with torch.no_grad():
                    model(batch)
            else:
                for p in model.parameters():
                    p.clamp_(-1, 1)
    """
    assert lines(trainer(body), "TM220") == []
