"""The torchtitan that a checkout uses and does not hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from codemods.source import SourceFile

PACKAGE = "torchtitan"
"""The one package whose ``apply_ddp`` is known to be this one."""


@dataclass(frozen=True)
class Dependency:
    """What is known of that torchtitan.

    Args:
        name: what messages call it, ``third_party/torchtitan at 73a0e69``; "" where
            neither it nor a pin is found.
        pinned: the line that says which one it is, ``requirements.txt:1, torchtitan==0.2.2``;
            of one at hand, only where it is another.
        advice: what makes it readable, as a sentence; "" where it is at hand.
        files: path -> file, each marked as of the dependency; none where it is not at hand.
        package: the name that its package is imported by.
    """

    name: str = ""
    pinned: str = ""
    advice: str = ""
    files: Mapping[str, SourceFile] = field(default_factory=dict)
    package: str = PACKAGE

    @property
    def known(self) -> str:
        """What is known of it, in brackets behind a word for it; "" where nothing is."""
        if self.name and self.pinned:
            return f" ({self.name}, and not the one of {self.pinned})"
        return f" ({self.name or self.pinned})" if self.name or self.pinned else ""


UNKNOWN = Dependency()
