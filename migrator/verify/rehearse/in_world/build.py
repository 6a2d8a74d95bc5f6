"""Makes a model of the tree under test as its trainer does, in a fake world of any size, on the meta device.

Functions of the checkout are called by the names of their parameters, for what
they are given has changed from release to release: `world_mesh` went, `job_config`
became its sections.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import math
import os
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from in_rank.measure import plain_name

if TYPE_CHECKING:
    from torch import nn

# What 0.1.0 takes from its tokenizer, llama3's here.
_VOCABULARY = 128256


class Unknown(Exception):
    """The checkout asks for something that a rehearsal does not know how to give."""


@dataclasses.dataclass
class Made:
    """What the trainer would hold before its first step.

    parts: the model, or this rank's stages of it. ends: whether the first of them has the
    tokens for its input, and the last has the logits for its output. known: what functions of the
    checkout are given, by name. spec: the train spec. ties: names of parameters
    that were one before anything was wrapped.
    """

    parts: list[nn.Module]
    ends: tuple[bool, bool]
    known: dict[str, Any]
    spec: Any
    ties: list[list[str]]


def look_up(name: str, module: str | None) -> tuple[Any, Mapping[str, Any]]:
    """The train spec of a model and its flavors; `module` is imported first where given.

    Raises Unknown where there is none, and what the checkout raises.
    """
    if module:
        importlib.import_module(module)
    else:
        # Importing them is what registered the models of 0.1.0.
        for package in ("torchtitan.models", "torchtitan.experiments"):
            _imported(package)
    look = getattr(_imported("torchtitan.protocols.train_spec"), "get_train_spec", None)
    if look is None:
        raise Unknown("it has no get_train_spec in torchtitan.protocols.train_spec")
    spec = look(name)
    flavors = getattr(spec, "model_args", None) or getattr(spec, "config", None)
    if not flavors:
        raise Unknown("its train spec lists no flavors, as model_args or config")
    return spec, flavors


def _imported(name: str) -> Any:
    """A module of the checkout; None where it has none of that name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def make(request: dict[str, Any]) -> Made:
    """Makes what a request asks for, see `host.py`; raises what the checkout raises, and Unknown."""
    import torch

    degrees: dict[str, int] = request["degrees"]
    # Expert parallelism takes ranks that the others have.
    world = math.prod(n for name, n in degrees.items() if name not in ("ep", "etp"))
    _enter(world, request["rank"])
    spec, flavors = look_up(request["name"], request["module"])
    config = parsed(request["arguments"])
    known = _sections(config)
    dims = known["parallel_dims"] = _dims(known, request["settings"], world)
    known["world_mesh"] = _mesh(dims)
    arguments = flavors[request["flavor"]]
    for name, value in request["overrides"].items():
        setattr(arguments, name, value)
    known["model_args"] = known["model_config"] = arguments
    update = getattr(arguments, "update_from_config", None)
    if update is not None:
        call(update, known)
    with torch.device("meta"), _dtype(known):
        model = _class_of(spec)(arguments)
    _convert(model, config, dims)
    tied = ties(model)
    known |= {"model": model, "parallelize_fn": spec.parallelize_fn}
    known["device"] = torch.device("cpu")
    if degrees.get("pp", 1) > 1:
        if not getattr(spec, "pipelining_fn", None):
            raise Unknown("its train spec has no pipelining_fn")
        known["loss_fn"] = lambda *_: None
        _, parts, *ends = call(spec.pipelining_fn, known)
    else:
        # The plan wraps in place, but may hand on another module.
        parts, ends = [call(spec.parallelize_fn, known) or model], [True, True]
    first, last = ends
    return Made(list(parts), (first, last), known, spec, tied)


def parsed(arguments: list[str]) -> Any:
    """torchtitan's configuration as its own parser makes it of these arguments."""
    for name in ("torchtitan.config", "torchtitan.config_manager"):
        manager = getattr(_imported(name), "ConfigManager", None)
        if manager is None:
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                return manager().parse_args(arguments)
        except SystemExit:
            raise Unknown(f"its parser refuses the arguments: {_told(said)}") from None
    raise Unknown("it has no ConfigManager in torchtitan.config or config_manager")


def _told(said: io.StringIO) -> str:
    """The last that a parser said, in one line and without its frames."""
    words = re.sub(r"[\u2500-\u257f]+|-{3,}", " ", said.getvalue()).split()
    return " ".join(words)[-300:]


def call(function: Callable[..., Any], known: Mapping[str, Any]) -> Any:
    """Calls a function of the checkout with what its parameters are called; raises Unknown for one without a default that is none of these."""
    positional, named = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name not in known:
            if parameter.default is parameter.empty:
                where = getattr(function, "__qualname__", repr(function))
                raise Unknown(
                    f"{where} wants {name}, which a rehearsal does not know how to give"
                )
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(known[name])
        else:
            named[name] = known[name]
    return function(*positional, **named)


def ties(part: nn.Module) -> list[list[str]]:
    """Names of parameters that are one, for each that has several."""
    together: dict[int, list[str]] = {}
    for name, parameter in part.named_parameters(remove_duplicate=False):
        together.setdefault(id(parameter), []).append(plain_name(name))
    return [names for names in together.values() if len(names) > 1]


def _enter(world: int, rank: int) -> None:
    """Makes this process a rank of a world in which nobody else is."""
    import torch.distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(world)}
    torch.distributed.init_process_group(
        backend="fake", rank=rank, world_size=world, store=FakeStore()
    )


def _sections(config: Any) -> dict[str, Any]:
    """What functions are given of a configuration: all of it, and its sections."""
    sections = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(config)
    }
    known = {
        **sections,
        **{f"{name}_config": section for name, section in sections.items()},
        "job_config": config,
        "config": config,
        "device_type": "cpu",
        "tokenizer": SimpleNamespace(n_words=_VOCABULARY, eos_id=0),
        "ft_manager": SimpleNamespace(enabled=False, use_async_quorum=False),
        "ft_enable": False,
    }
    known["ac_config"] = sections.get("activation_checkpoint")
    training = sections.get("training")
    known["mixed_precision_param"] = getattr(training, "mixed_precision_param", None)
    return known


def _dims(known: dict[str, Any], names: dict[str, str], world: int) -> Any:
    from torchtitan.distributed import ParallelDims

    settings = known["parallelism"]
    given = {
        name: getattr(settings, setting)
        for name, setting in names.items()
        if hasattr(settings, setting)
    }
    loss = not getattr(settings, "disable_loss_parallel", False)
    return call(
        ParallelDims, {**given, "world_size": world, "enable_loss_parallel": loss}
    )


def _mesh(dims: Any) -> Any:
    """The world mesh, made where that is for the trainer to do."""
    made = call(dims.build_mesh, {"device_type": "cpu"})
    return getattr(dims, "world_mesh", None) or made


def _dtype(known: dict[str, Any]) -> Any:
    """The dtype that parameters are made in, as the configuration says."""
    import torch

    wanted = getattr(known.get("training"), "dtype", "float32")
    if wanted == "float32":
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def default() -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, wanted))
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    return default()


def _class_of(spec: Any) -> Any:
    found = getattr(spec, "model_cls", None) or getattr(spec, "cls", None)
    if found is None:
        raise Unknown("its train spec has no class of models, as model_cls or cls")
    return found


def _convert(model: nn.Module, config: Any, dims: Any) -> None:
    """What the configuration has done to a model before it is wrapped: float8 and the like."""
    try:
        from torchtitan.protocols.model_converter import build_model_converters
    except ImportError:
        return
    build_model_converters(config, dims).convert(model)
