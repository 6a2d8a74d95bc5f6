"""Which run of how many, and how long the rest may take."""

from migrator.verify.choose.scenarios import CELLS, QUICK
from migrator.verify.show.progress import Progress, runs_of


def test_an_estimate_comes_with_the_first_run_that_is_over():
    progress = Progress(4)
    assert progress.now() == "run 1 of 4"
    progress.ran(10)
    assert progress.now() == "run 2 of 4, about 30 s left"
    progress.ran(110)
    assert progress.now() == "run 3 of 4, about 2 min left"


def test_what_is_left_out_shortens_the_rest():
    progress = Progress(4)
    progress.ran(10)
    progress.left_out(2)
    assert progress.now() == "run 2 of 2, about 10 s left"
    progress.left_out(9)
    assert progress.now() == "run 2 of 2, about 10 s left"


def test_the_default_takes_so_many_runs():
    assert runs_of([CELLS[name] for name in QUICK]) == 27
    assert runs_of([CELLS["dp+tp"]]) == 6
    assert runs_of([CELLS["fsdp"]]) == 3
