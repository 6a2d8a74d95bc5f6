"""What ranks have to have in common, and what not: data, norms, buffers, random numbers.

Whether it is right depends on the fork, so a run on trial is held against others of the
same fork: what was so all along is not the migration's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from migrator.verify.judge.culprit import KINDS, figures_of
from migrator.verify.judge.trace import Checksum, RankTrace, Trace

Finding = str | None


def unlike(trial: Trace, others: Iterable[Trace], dp: int) -> list[str]:
    """What the ranks of a run do otherwise than those of every other run that came as far.

    Args:
        trial: the run on trial.
        others: runs that may do the same, of FSDP and of DDP.
        dp: data-parallel ranks.
    """
    held = [one for one in others if one.steps and not one.first_error]
    if not held or not trial.steps or trial.first_error:
        return []
    found = []
    for look in LOOKS:
        said = look(trial, dp)
        if said and not any(look(other, dp) for other in held):
            found.append(f"Migrated tree: {said}, and it was not so before.")
    found += _buffers_changed(trial, held)
    if _data_of(trial) and not any(_data_of(trial) == _data_of(one) for one in held):
        found.append("Migrated tree: its ranks together read other data than before.")
    return found


def same_data(trace: Trace, dp: int) -> Finding:
    """Data-parallel ranks that read the same tokens."""
    for step, blocks in _blocks(trace, dp):
        seen: dict[str, int] = {}
        for block in blocks:
            for rank, data in block[:1]:
                if data in seen:
                    return (
                        f"data-parallel ranks {seen[data]} and {rank} read the same data in step {step},"
                        " so it is trained twice"
                    )
                seen[data] = rank
    return None


def other_data(trace: Trace, dp: int) -> Finding:
    """Ranks of one data-parallel rank, tensor-parallel ones say, that read different tokens."""
    for step, blocks in _blocks(trace, dp):
        for (first, data), *rest in blocks:
            for rank, other in rest:
                if other != data:
                    return (
                        f"ranks {first} and {rank}, which share a data-parallel rank, read"
                        f" different data in step {step}"
                    )
    return None


def norms_apart(trace: Trace, dp: int) -> Finding:
    """Ranks that clip by different norms."""
    first: dict[int, tuple[int, float | None]] = {}
    for rank in trace.ranks:
        for step in rank.steps:
            other, norm = first.setdefault(step.step, (rank.rank, step.grad_norm))
            if norm != step.grad_norm:
                return (
                    f"grad_norm is {norm} on rank {other} and {step.grad_norm} on rank {rank.rank} in step"
                    f" {step.step}, so each clips by a norm of its own"
                )
    return None


def _differ(when: str, where: str) -> Callable[[Trace, int], Finding]:
    def look(trace: Trace, dp: int) -> Finding:
        for ranks in replicas(trace):
            apart = first_apart(ranks, lambda rank: rank.buffers.get(when, {}))
            if apart:
                name, one, other = apart
                return (
                    f"buffer {name} is not the same on ranks {one} and {other} {where}"
                )
        return None

    return look


def weights_apart(trace: Trace, dp: int) -> Finding:
    """Data-parallel ranks that start with different weights."""
    for ranks in replicas(trace):
        apart = first_apart(ranks, lambda rank: digests(rank.initial))
        if apart:
            name, one, other = apart
            return f"{name} is not the same on ranks {one} and {other} before the first step"
    return None


def random_apart(trace: Trace, dp: int) -> Finding:
    """Which ranks have random numbers in common: told by its partition, where it is not one for all."""
    states = [rank.random for rank in trace.ranks]
    if len(set(states)) <= 1:
        return None
    return "random numbers are not the same on all ranks before the first step"


LOOKS = (
    same_data,
    other_data,
    norms_apart,
    weights_apart,
    _differ("initial", "before the first step"),
    _differ("parameters", "after the last step"),
    random_apart,
)


def _buffers_changed(trial: Trace, held: list[Trace]) -> list[str]:
    """The first buffer that is otherwise than in every other run: its dtype, or what a training leaves as it is."""
    for rank in trial.ranks:
        others = [o.buffers for one in held for o in one.ranks if o.rank == rank.rank]
        for name, mine in rank.buffers.get("initial", {}).items():
            found = [o for o in others if name in o.get("initial", {})]
            theirs = [other["initial"][name] for other in found]
            if not theirs or mine in theirs:
                continue
            dtype, before = mine.split()[0], theirs[0].split()[0]
            if dtype != before:
                return [
                    f"Migrated tree: buffer {name} is {dtype}, and was {before} before."
                ]
            # What counts tokens, or routes them, may have been rounded to others.
            if all(
                o.get("parameters", {}).get(name) == o["initial"][name] for o in found
            ):
                return [
                    f"Migrated tree: buffer {name} holds other values than before on rank {rank.rank}."
                ]
    return []


def replicas(trace: Trace) -> list[list[RankTrace]]:
    """The ranks that are data-parallel replicas of each other."""
    by_place: dict[tuple[int, tuple[str, ...]], list[RankTrace]] = {}
    for rank in trace.ranks:
        # Tensor-parallel ranks are next to each other, and a pipeline's stages have each their own parameters.
        place = rank.rank % rank.model.get("tensor", 1), tuple(sorted(rank.initial))
        by_place.setdefault(place, []).append(rank)
    return list(by_place.values())


def first_apart(
    ranks: Iterable[RankTrace], of: Callable[[RankTrace], Mapping[str, str]]
) -> tuple[str, int, int] | None:
    """The first name under which two ranks have different digests, and the two; None where there is none."""
    # Not every rank has every parameter: pipeline stages have their own.
    first: dict[str, tuple[int, str]] = {}
    for rank in ranks:
        for name, digest in of(rank).items():
            other, known = first.setdefault(name, (rank.rank, digest))
            if known != digest:
                return name, other, rank.rank
    return None


def first_seen_apart(ranks: list[RankTrace]) -> str:
    """Where the figures of replicas part first, in a sentence: by step, gradients before weights, in the order of the backward pass."""
    others = [{step.step: step for step in rank.steps} for rank in ranks[1:]]
    for step in ranks[0].steps:
        here = [steps[step.step] for steps in others if step.step in steps]
        for kind in KINDS:
            mine = figures_of(step, kind)
            for name in reversed(list(mine)):
                if any(figures_of(one, kind).get(name) != mine[name] for one in here):
                    return f" First apart: the {kind} of {name} in step {step.step}."
    return ""


def digests(values: Mapping[str, Checksum]) -> dict[str, str]:
    """Parameter -> digest."""
    return {name: value["digest"] for name, value in values.items()}


def _blocks(trace: Trace, dp: int) -> Iterable[tuple[int, list[list[tuple[int, str]]]]]:
    """For each step the ranks that read data, with it, by data-parallel rank: neighbours, as torchtitan lays them out."""
    for step, read in _by_step(trace).items():
        if read and len(read) % dp == 0:
            size = len(read) // dp
            yield step, [read[i * size : (i + 1) * size] for i in range(dp)]


def _by_step(trace: Trace) -> dict[int, list[tuple[int, str]]]:
    found: dict[int, list[tuple[int, str]]] = {}
    for rank in trace.ranks:
        for step in rank.steps:
            if step.data is not None:
                found.setdefault(step.step, []).append((rank.rank, step.data))
    return found


def _data_of(trace: Trace) -> dict[int, Counter[str]]:
    """Step -> what all ranks read, whichever of them."""
    return {
        step: Counter(data for _, data in read)
        for step, read in _by_step(trace).items()
    }
