"""Scripts, jobs and code that start the trainer of a torchtitan outside of the checkout."""

import pytest

from codemods.bindings import Checkout
from codemods.launches import launches
from codemods.source import SourceFile
from codemods.texts import TextFile, is_text

LOOP = {"lab/train.py": "x = 1\n"}


def found(path: str, text: str, **files: str) -> list[tuple[str, int]]:
    own = {**LOOP, **files}
    texts = []
    if path.endswith(".py"):
        own[path] = text
    else:
        assert is_text(path)
        texts.append(TextFile(path, text.encode()))
    sources = {p: SourceFile(p, said.encode()) for p, said in own.items()}
    return launches(Checkout(sources), texts)


@pytest.mark.parametrize(
    "path, text",
    [
        ("run.sh", "#!/bin/sh\ntorchrun --nproc_per_node 8 -m torchtitan.train\n"),
        ("run.sh", "set -e\npython third_party/torchtitan/torchtitan/train.py --x\n"),
        ("run.sh", "A=b\nTRAIN_FILE=${TRAIN_FILE:-\"torchtitan.train\"}\n"),
        ("run.sh", "cd lab\n$TITAN/torchtitan/run_train.sh\n"),
        ("jobs/a.slurm", "# torchtitan.train\nsrun torchrun \\\n  -m torchtitan.train \\\n"),
        ("Makefile", "train:\n\ttorchrun -m torchtitan.train\n"),
        ("jobs/pod.yaml", "args:\n- [-m, torchtitan.train]\n"),
        ("a.ipynb", '{"cells": [\n"!torchrun -m torchtitan.train\\n"\n]}\n'),
        ("go.py", "import subprocess\nsubprocess.run(['torchrun', '-m', 'torchtitan.train'])\n"),
        ("go.py", "import os\nos.system(f'torchrun -m torchtitan.train {x}')\n"),
        ("go.py", "import runpy\nrunpy.run_module('torchtitan.train')\n"),
    ],
)  # fmt: skip
def test_what_starts_it(path, text):
    line = 3 if "slurm" in path else 2
    assert found(path, text) == [(path, line)]


@pytest.mark.parametrize(
    "path, text",
    [
        ("run.sh", "# torchrun -m torchtitan.train\n"),
        ("run.sh", "torchrun -m lab.train\n"),
        ("run.sh", "torchrun -m lab.torchtitan.train\n"),
        ("run.sh", "pytest torchtitan.train_spec my-torchtitan/train.py\n"),
        ("run.sh", "python own/torchtitan/train.py\n"),
        ("README.md", "torchrun -m torchtitan.train\n"),
        ("go.py", "log = getLogger('torchtitan.train')\n"),
        ("tests/test_it.py", "run(['torchrun', '-m', 'torchtitan.train'])\n"),
    ],
)
def test_what_does_not(path, text):
    assert found(path, text, **{"own/torchtitan/train.py": ""}) == []


def test_a_fork_starts_its_own():
    dims = {
        "torchtitan/distributed/parallel_dims.py": "class ParallelDims:\n    x = 1\n"
    }
    assert found("run.sh", "torchrun -m torchtitan.train\n", **dims) == []
