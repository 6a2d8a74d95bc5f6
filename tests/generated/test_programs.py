"""Programs put together at random: each is migrated, or left with a place and a reason.

``many.py`` runs as many as are asked for; what runs here is the same in every run.
"""

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from programs import Program, programs
from properties import executed, judged, survives, twice

HOW_MANY = 100


@settings(
    max_examples=HOW_MANY,
    derandomize=True,  # the seed is the test's own text
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(programs(), st.integers(0, 9))
def test_programs(program: Program, which: int):
    """The order of files, and what git makes of the difference, of one in ten each."""
    assert not judged(program, order=which == 0, patch=which == 1).failures


@settings(max_examples=5, derandomize=True, database=None, deadline=None)
@given(programs())
def test_what_is_not_migrated_or_lost_is_told(program: Program):
    """The properties of a program as it is, and without its last lines."""
    assert [*executed(program, program.files, False)]
    assert [*twice(program, program.files)]
    assert not [*survives(program, program.files)]
    short = {path: raw[: len(raw) // 2] for path, raw in program.files.items()}
    assert [*survives(program, short)]
