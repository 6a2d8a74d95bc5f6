"""TM226: parts of a wrapped model called past its forward."""

import pytest

from trainers import found, lines, trainer

MODEL = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(8, 8)
        self.attention = Attention()

    def features(self, tokens):
        return self.embed(tokens)

    def again(self, tokens):
        return self(tokens)

    def forward(self, tokens):
        for layer in self.layers.values():
            layer.attention(tokens)
        return self.features(tokens)


"""


def used(line, head=""):
    return trainer(f"{MODEL}def use(self, model, tokens):\n    {line}\n", head)


@pytest.mark.parametrize(
    "line",
    [
        "self.model.features(tokens)",
        "hidden = model.features(tokens)",
        'model.layers["0"].attention(tokens)',
        "[layer.attention(tokens) for layer in model.layers.values()]",
    ],
)
def test_fires(line):
    assert lines(used(line), "TM226") == [line]
    assert found(used(line), "TM226")[0].severity == "loud"


@pytest.mark.parametrize(
    "line",
    [
        "self.model(tokens)",
        "model.again(tokens)",
        'model.layers["0"](tokens)',
        "tokenizer.features(tokens)",
        "layer.attention.reset(tokens)",
    ],
)
def test_does_not_fire(line):
    assert lines(used(line), "TM226") == []


def test_a_registered_method_is_forward():
    line = 'register_fsdp_forward_method(model, "features"); model.features(tokens)'
    assert lines(used(line), "TM226") == []


def test_another_librarys_model_is_not_ours():
    body = f"{MODEL}def use(self, tokens):\n    self.model = tiktoken.Encoding()\n    self.model.features(tokens)\n"
    assert lines(trainer(body, "import tiktoken"), "TM226") == []
