"""The demo where no registry answers: the bundled fixture, migrated, trained and judged."""

from __future__ import annotations

import pytest
from rich.console import Console

from migrator.demo import run_demo

pytestmark = [pytest.mark.torchrun, pytest.mark.usefixtures("warm_ranks")]


def test_demo_without_a_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    console = Console(record=True, width=120, quiet=False)
    assert run_demo(console=console, workdir=tmp_path / "demo")
    printed = console.export_text()
    assert "bundled fixture v0_2_1" in printed and "PASSED" in printed
    assert "apply_replicate" in (tmp_path / "demo" / "migration.patch").read_text()
    assert (tmp_path / "demo" / "torchtitan" / "torchtitan" / "train.py").exists()


def test_demo_does_not_write_over_a_tree(tmp_path):
    (tmp_path / "torchtitan").mkdir()
    with pytest.raises(FileExistsError):
        run_demo(console=Console(quiet=True), workdir=tmp_path)
