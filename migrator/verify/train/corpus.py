"""The text that the training runs of `verify` read.

torchtitan's wheels bring no data, and a verdict must not hang on a network.
So the text is made here, from word lists of our own, the same on every machine.
It has enough structure (agreement, recurring subjects, numbers) that a small
model's loss falls from the first steps on.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

_SUBJECTS = (
    "the harbour master", "a young surveyor", "the night train", "our neighbour", "the baker's daughter",
    "an old lighthouse", "the river", "a patient gardener", "the clockmaker", "the whole village",
    "the ferry", "a travelling musician", "the schoolteacher", "the weaver", "a flock of starlings",
)  # fmt: skip
_VERBS = (
    "remembered", "carried", "followed", "measured", "repaired", "painted", "counted", "promised",
    "answered", "watched", "borrowed", "described", "folded", "planted", "returned",
)  # fmt: skip
_OBJECTS = (
    "the copper kettle", "a map of the coast", "three letters", "the broken gate", "every winter apple",
    "a song without words", "the long road home", "the blue door", "an unfinished story", "the first snow",
    "a basket of pears", "the tide tables", "a borrowed coat", "the quiet orchard", "seven small stones",
)  # fmt: skip
_PLACES = (
    "by the old mill", "near the market", "under the stone bridge", "behind the chapel", "along the shore",
    "at the edge of the wood", "in the narrow street", "on the hill", "across the square", "before the storm",
)  # fmt: skip
_LINKS = (
    "and then",
    "because",
    "although",
    "until",
    "while",
    "so that",
    "before",
    "after which",
)
_OPENINGS = (
    "That evening",
    "Later",
    "In spring",
    "As always",
    "Once again",
    "For a while",
    "At dawn",
    "Some years on",
)


def documents(count: int = 200, seed: int = 20240) -> list[str]:
    """Makes `count` short texts of 12 to 30 sentences each.

    Only `Random.random` is drawn from: it is the one generator call whose
    sequence Python promises to keep for a seed, so the text never changes.
    """
    rng = random.Random(seed)

    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.random() * len(words))]

    def clause() -> str:
        return f"{pick(_SUBJECTS)} {pick(_VERBS)} {pick(_OBJECTS)}"

    def sentence() -> str:
        shape = rng.random()
        if shape < 0.35:
            text = f"{clause()} {pick(_PLACES)}"
        elif shape < 0.7:
            text = f"{clause()} {pick(_LINKS)} {clause()}"
        elif shape < 0.85:
            text = f"{pick(_OPENINGS)}, {clause()} {pick(_PLACES)}"
        else:
            number = 2 + int(rng.random() * 97)
            text = f"on day {number} {clause()}, {number} times in all"
        return text[0].upper() + text[1:] + "."

    return [
        " ".join(sentence() for _ in range(12 + int(rng.random() * 19)))
        for _ in range(count)
    ]


def write_dataset(folder: Path, alike: bool = False) -> None:
    """Writes the texts as `data.json` lines, which `datasets.load_dataset(folder)` reads.

    alike: the first of them over and over, so that all ranks read the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = documents()
    with open(folder / "data.json", "w", encoding="utf-8") as file:
        for text in [texts[0]] * len(texts) if alike else texts:
            file.write(json.dumps({"text": text}) + "\n")
