"""Which models are rehearsed, and what a fork's own configuration says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from migrator.verify.choose import models
from migrator.verify.choose.models import Model
from migrator.verify.errors import VerifyError
from migrator.verify.rehearse.layouts import DEGREES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVERY = "*"
"""Stands for every flavor of a model; they are known when the model is imported."""


def wanted(tree: Path, titles: Sequence[str]) -> list[Model]:
    """The models of these titles, as `verify --model` has them, but in any flavor: `llama3/405B`, `llama3/*`, `all/*`.

    Raises VerifyError for a title of which there is no model.
    """
    known = models.models_of(tree)
    found: list[Model] = []
    for title in titles:
        name, _, flavor = title.partition("/")
        if title in known or title == "all":
            found += models.choose(tree, [title])
        elif title == f"all/{EVERY}":
            found += [
                replace(model, flavor=EVERY, overrides={})
                for model in {m.name: m for m in known.values()}.values()
            ]
        elif flavor and (one := _named(known, name)):
            found.append(replace(one, flavor=flavor, overrides={}))
        else:
            # Says what there is.
            models.choose(tree, [title])
    return list({model.title: model for model in found}.values())


def _named(known: dict[str, Model], name: str) -> Model | None:
    return next((model for model in known.values() if model.name == name), None)


def configuration(given: str, tree: Path) -> Path:
    """The TOML file of `--config`: a path, or the name of one in a folder `train_configs` of the checkout.

    Raises VerifyError where there is none, or several of that name.
    """
    path = Path(given)
    if path.is_file():
        return path.resolve()
    name = given if given.endswith(".toml") else f"{given}.toml"
    found = sorted((tree / "torchtitan").glob(f"**/train_configs/{name}"))
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(str(one.relative_to(tree)) for one in found)
        raise VerifyError(
            f"--config {given} is the name of several: give one of {shown}."
        )
    raise VerifyError(
        f"--config {given} is no file, and no train_configs/{name} of the checkout either."
    )


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a job configuration; raises VerifyError where it cannot be read."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VerifyError(
            f"--config {path} cannot be read ({error}): mend it and run again."
        ) from None
    return {name: part for name, part in found.items() if isinstance(part, dict)}


def title_of(settings: dict[str, dict[str, Any]]) -> str | None:
    """The model that a configuration names, as a title."""
    model = settings.get("model", {})
    if "name" not in model:
        return None
    return f"{model['name']}/{model.get('flavor', 'debugmodel')}"


def degrees_of(settings: dict[str, dict[str, Any]]) -> dict[str, int]:
    """The degrees that a configuration gives."""
    given = settings.get("parallelism", {})
    return {
        name: int(given[setting])
        for name, setting in DEGREES.items()
        if setting in given
    }
