"""Phases, whose results may be taken over."""

from codemods.phases import phase, reusing


class Told:
    """Takes nothing over, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def result(self, function, given):
        self.asked.append(given)
        return function(*given) * 10


@phase
def added(one: int, other: int = 0) -> int:
    return one + other


def test_a_phase_is_asked_for_only_while_somebody_reuses():
    told = Told()
    assert added(1, 2) == 3
    with reusing(told):
        assert added(1, 2) == 30
        assert added(1, other=2) == 3, "what is named is worked out"
    assert added(1, 2) == 3 and told.asked == [(1, 2)]
