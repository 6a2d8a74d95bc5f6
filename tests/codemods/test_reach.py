"""Which files have to do with the model that is trained."""

from codemods.bindings import Checkout
from codemods.reach import files_of_training
from codemods.source import SourceFile

FILES = {
    "titan/train.py": "from titan.models import registry\nfrom .ema import (\n    Ema,\n)\n",
    "titan/ema.py": "import titan.maths as maths\n",
    "titan/maths.py": "",
    "titan/models/registry.py": "from . import plan\n",
    "titan/models/plan.py": "from titan.maths import norm\n",
    "titan/kernels/toy_training.py": "from titan.maths import norm\n",
    "titan/generate.py": "from titan.models.plan import build\n",
    "tests/unit_tests/test_plan.py": "from titan.models.plan import build\n",
}


def reached(*plans):
    files = {path: SourceFile(path, text.encode()) for path, text in FILES.items()}
    return files_of_training(Checkout(files), plans)


def test_who_imports_a_plan_and_what_they_import():
    assert reached("titan/models/plan.py") == {
        "titan/train.py",
        "titan/ema.py",
        "titan/maths.py",
        "titan/models/registry.py",
        "titan/models/plan.py",
    }


def test_without_a_plan_everything_but_what_lies_beside():
    assert FILES.keys() - reached() == {
        "titan/generate.py",
        "tests/unit_tests/test_plan.py",
    }
