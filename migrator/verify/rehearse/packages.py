"""What to say where a package is missing that a model imports. Pure functions; no torch."""

from __future__ import annotations

# What torchtitan's models import, from 0.1.0 to 0.2.2 -> what pip calls it.
_FROM_INDEX = {
    "PIL": "pillow",
    "av": "av",
    "datasets": "datasets",
    "diffusers": "diffusers",
    "einops": "einops",
    "sentencepiece": "sentencepiece",
    "tiktoken": "tiktoken",
    "tokenizers": "tokenizers",
    "torchao": "torchao",
    "torchdata": "torchdata",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "triton": "triton",
    "tyro": "tyro",
}


def lacking(module: str) -> str:
    """That a module is missing, and how to install it where that is known; empty for one of the checkout's own."""
    name = module.partition(".")[0]
    if name == "torchtitan":
        return ""
    if name in _FROM_INDEX:
        return f"the package {name} is missing here: pip install {_FROM_INDEX[name]} adds it"
    return (
        f"the module {name} is missing here: the model's own instructions say"
        " where it comes from"
    )
