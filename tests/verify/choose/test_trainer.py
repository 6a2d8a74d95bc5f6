"""Who trains a checkout that uses a torchtitan which it does not hold."""

import pytest

from migrator.verify.choose.models import GRAFTED
from migrator.verify.choose.trainer import trainer_of

DERIVED = """\
from torchtitan.train import Trainer, main

class LabTrainer(Trainer):
    pass
"""
STARTED = f"{DERIVED}\nmain(LabTrainer)\n"
FURTHER = """\
from lab.train import LabTrainer

class Longer(LabTrainer):
    pass
"""
OTHER = """\
import torchtitan.train

class Other(torchtitan.train.Trainer):
    pass
"""


@pytest.mark.parametrize(
    "files, started, derived",
    [
        ({"lab/train.py": DERIVED}, "lab.train:LabTrainer", 1),
        ({"lab/train.py": STARTED, "lab/other.py": OTHER}, "lab.train:LabTrainer", 2),
        ({"lab/train.py": DERIVED, "lab/other.py": OTHER}, "", 2),
        ({"lab/train.py": DERIVED, "lab/longer.py": FURTHER}, "", 2),
        (
            {
                "lab/train.py": DERIVED,
                "lab/longer.py": f"{FURTHER}\nLonger(None).train()\n",
            },
            "lab.longer:Longer",
            2,
        ),
        ({"lab/train.py": "class Trainer:\n    pass\n"}, "", 0),
        ({"tests/test_it.py": STARTED}, "", 0),
        (
            {"lab/train.py": DERIVED, "lab/odd.py": "Trainer = ("},
            "lab.train:LabTrainer",
            1,
        ),
    ],
    ids=[
        "one",
        "one of two",
        "two",
        "one of the other",
        "the last",
        "own",
        "a test",
        "broken",
    ],
)
def test_it_is_the_one_that_the_checkout_starts(tmp_path, files, started, derived):
    for name, text in {**files, GRAFTED: "torchtitan 0.2.2\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = trainer_of(tmp_path)
    assert (found.started, len(found.derived)) == (started, derived)
    if started:
        assert found.said == f"Trained by {started.replace(':', '.')}."
    else:
        assert ("none was seen" in found.said) == bool(derived)


def test_a_torchtitan_of_its_own_has_torchtitans_trainer(tmp_path):
    (tmp_path / "train.py").write_text(STARTED)
    assert trainer_of(tmp_path).derived == ()
