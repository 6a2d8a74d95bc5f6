"""Whether an execution comes to one call, and which meshes it is about to pass there."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from codemods.execute.run import Run
from codemods.execute.tree import Tree
from codemods.execute.worlds import World
from codemods.interpret.values import (
    CannotFollow,
    Frame,
    Function,
    Instance,
    Mesh,
    Raised,
    Unknown,
)

_OF_REPLICATION = re.compile(r"ddp|replica", re.IGNORECASE)
_OF_NONE = re.compile(r"(== [01]|LtE 1|Lt 2)$")
_CONFIGURED = {
    "data_parallel_replicate_degree": "dp_replicate",
    "data_parallel_shard_degree": "dp_shard",
    "tensor_parallel_degree": "tp",
    "pipeline_parallel_degree": "pp",
    "context_parallel_degree": "cp",
    "expert_parallel_degree": "ep",
}
"""What the degrees are called in torchtitan's configuration."""


class Arrived(Exception):
    """It came to the call, and passes these meshes."""

    def __init__(self, meshes: tuple[Mesh, ...]) -> None:
        self.meshes = meshes
        super().__init__(meshes)


@dataclass(frozen=True)
class Passed:
    """How an execution comes to a call.

    Args:
        meshes: what it passes.
        guarded: it was refused on the way, by what is passed over.
        asked: every open question on the way, with the answer it got.
    """

    meshes: tuple[Mesh, ...]
    guarded: bool
    asked: Mapping[str, bool]


class _ToCall(Run):
    """Executes a function until it comes to a call."""

    target: ast.Call
    replicates: bool

    def _of_Call(self, node: ast.Call, frame: Frame) -> object:
        if node is not self.target:
            return super()._of_Call(node, frame)
        args, keywords = self.arguments(node, frame)
        given = (*args, *keywords.values())
        raise Arrived(tuple(value for value in given if isinstance(value, Mesh)))

    def _do_Expr(self, node: ast.Expr, frame: Frame) -> None:
        if node.value is self.target:
            self.evaluate(node.value, frame)
        super()._do_Expr(node, frame)

    def class_attribute(self, owner: Instance, name: str) -> object:
        """An open question too, where a class derived from it may answer that."""
        try:
            return super().class_attribute(owner, name)
        except Raised as raised:
            dims = self._meshes and owner is self._meshes.parallel_dims
            if dims and raised.kind == "AttributeError" and not raised.path:
                return Unknown(f"parallel_dims.{name}")
            raise

    def answer(self, question: str, otherwise: bool = True) -> bool:
        """What asks for replication by its name is answered by the degrees."""
        if question not in self._answers and _OF_REPLICATION.search(question):
            otherwise = self.replicates is not bool(_OF_NONE.search(question))
        return super().answer(question, otherwise)


class Arrivals:
    """The worlds in which a function of a checkout comes to one call.

    Args:
        tree: the checkout.
        place: the function, by path and qualified name.
        call: it, in this function or in one that it calls.
        passing: (path, line) of what may refuse on the way, and will not any more.
    """

    def __init__(
        self,
        tree: Tree,
        place: tuple[str, str],
        call: ast.Call,
        passing: frozenset[tuple[str, int]],
    ) -> None:
        self.tree, self.place, self.call = tree, place, call
        self.passing = passing
        self.answers: Mapping[str, bool] = {}

    def finds_the_way(self, degrees: Mapping[str, int]) -> bool:
        """Whether it comes to the call under some degrees, one open question answered otherwise if need be; that answer is kept."""
        run = self._run(degrees, frozenset())
        if isinstance(run, Passed):
            return True
        for question, answer in run.items():
            self.answers = {question: not answer}
            if isinstance(self._run(degrees, frozenset()), Passed):
                return True
        self.answers = {}
        return False

    def comes(self, degrees: Mapping[str, int]) -> Passed | None:
        """How it comes to the call under some degrees, None where it does not."""
        found = self._run(degrees, frozenset())
        return found if isinstance(found, Passed) else None

    def decided_by(
        self, degrees: Mapping[str, int], others: Mapping[str, int]
    ) -> str | None:
        """The open question by whose answer it comes to the call, if any.

        Args:
            degrees: under which it does.
            others: under which it does whatever the answer.
        """
        passed, known = self.comes(degrees), self.answers
        for question in sorted(passed.asked.keys() - known.keys()) if passed else ():
            answer = passed is not None and passed.asked[question]
            self.answers = {**known, question: not answer}
            decides = self.comes(degrees) is None and self.comes(others) is not None
            self.answers = known
            if decides:
                return question if answer else f"not ({question})"
        return None

    def _run(
        self, degrees: Mapping[str, int], over: frozenset[tuple[str, int]]
    ) -> Passed | dict[str, bool]:
        """How it comes to the call, or else the questions that were asked."""
        path, name = self.place
        tree, world = self.tree, World(degrees, self.answers)
        try:
            built = tree.meshes(path, world)
        except (CannotFollow, Raised):
            return {}
        if not degrees.keys() <= built.parallel_dims.attributes.keys():
            return {}  # there is no such dimension
        node, scope = tree.functions(path)[name]
        configured = {k: degrees.get(v, 1) for k, v in _CONFIGURED.items()}
        run = _ToCall(
            tree.checkout, self.answers, built, tree.touches, over, configured
        )
        run.target = self.call
        run.replicates = degrees.get("dp_replicate", 1) > 1
        try:
            record = run.start(Function(node, Frame(path, scope)))
        except Arrived as arrived:
            return Passed(arrived.meshes, bool(over), run.record.asked)
        at = record.raised_at
        if at in self.passing and at is not None and at not in over:
            return self._run(degrees, over | {at})
        return record.asked
