"""Small checkouts put together from pieces, in every way in which they fit."""

import ast
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import indent

import pieces
from hypothesis import strategies as st

from codemods.targets import Mesh


@dataclass(frozen=True)
class Program:
    """A checkout.

    Args:
        files: path -> content.
        kept: path -> the lines that have to be in it afterwards, in this order.
        comments: path -> the comments that have to be in it.
        plans: (path, function) of each plan, and how it gets its mesh.
        mesh: the target.
    """

    files: Mapping[str, bytes]
    kept: Mapping[str, Sequence[bytes]]
    comments: Mapping[str, Sequence[bytes]]
    plans: Sequence[tuple[str, str, str]]
    mesh: Mesh

    def __str__(self) -> str:
        return "\n".join(
            f"===== {path}\n{raw.decode()}"
            for path, raw in self.files.items()
            if not path.endswith(("__init__.py", "logging.py", "config.py"))
        )


@dataclass(frozen=True)
class Layout:
    """How a file is written.

    Args:
        unit: of indentation.
        eol: the end of a line.
        last: whether the last line has one.
        comments: how many statements, and lines of a list, of a hundred have one.
        mark: what stands before the first line.
        seed: chooses them.
    """

    unit: str = "    "
    eol: str = "\n"
    last: bool = True
    comments: int = 0
    seed: int = 0
    mark: bytes = b""


@dataclass
class Written:
    """A file in its layout."""

    raw: bytes = b""
    kept: list[bytes] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)


def fill(template: str, **parts: str) -> str:
    """A template with its ``{name}`` replaced; one on a line of its own by many lines."""
    for name, part in parts.items():

        def lines(found: re.Match[str], part: str = part) -> str:
            return indented(part, found[1])

        template = re.sub(rf"(?m)^([ ]*)\{{{name}\}}\n", lines, template)
        template = template.replace(f"{{{name}}}", part)
    return template


def indented(text: str, prefix: str) -> str:
    """Lines further in, the marks at their beginning in their place."""
    moved = indent(text, prefix)
    return re.sub(r"(?m)^( +)([~+])", r"\2\1", moved)


def written(text: str, layout: Layout) -> Written:
    """A text with marks, with comments and laid out.

    Args:
        text: lines of four spaces, with the marks of ``pieces``.
        layout: how it is written.
    """
    marked = text.split("\n")[:-1]
    marks = [line[0] if line[:1] in ("~", "+") else " " for line in marked]
    lines = [line.lstrip("~+") for line in marked]
    above, beside = _comments("\n".join(lines), layout)
    result = Written()
    out: list[str] = []
    for number, (line, mark) in enumerate(zip(lines, marks), 1):
        if number in above:
            comment = f"# {above[number]}"
            start = line[: len(line) - len(line.lstrip())]
            out.append(f"{start}{comment}")
            if mark != "~":
                result.comments.append(comment.encode())
        if number in beside:
            comment = f"# {beside[number]}"
            line = f"{line}  {comment}"
            if mark != "~":
                result.comments.append(comment.encode())
        out.append(line)
        if mark == " ":
            result.kept.append(_laid_out(line, layout))
    raw = [_laid_out(line, layout) for line in out]
    if layout.mark and raw and raw[0]:
        raw[0] = layout.mark + raw[0]
    result.raw = layout.eol.encode().join([*raw, b""] if layout.last else raw)
    return result


def _laid_out(line: str, layout: Layout) -> bytes:
    text = line.lstrip(" ")
    steps, rest = divmod(len(line) - len(text), 4)
    return f"{layout.unit * steps}{' ' * rest}{text}".encode()


def _comments(text: str, layout: Layout) -> tuple[dict[int, str], dict[int, str]]:
    """Line -> comment above it, and beside it."""
    above: dict[int, str] = {}
    beside: dict[int, str] = {}
    if not layout.comments:
        return above, beside
    choice = random.Random(layout.seed)
    lines = text.split("\n")
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt):
            continue
        if choice.randrange(100) < layout.comments:
            above.setdefault(node.lineno, f"über {len(above)} of {layout.seed}")
        last = node.end_lineno if not hasattr(node, "body") else node.lineno
        plain = last and '"""' not in lines[last - 1] and "'''" not in lines[last - 1]
        if plain and choice.randrange(100) < layout.comments:
            beside.setdefault(last, f"beside {len(beside)} of {layout.seed}")
    for number, line in enumerate(lines, 1):  # of an import or a call
        if (
            re.match(r"^ +[\w.=\[\]]+,$", line)
            and choice.randrange(100) < layout.comments
        ):
            beside.setdefault(number, f"within {len(beside)} of {layout.seed}")
    return above, beside


layouts = st.builds(
    Layout,
    unit=st.sampled_from(["    ", "    ", "    ", "  ", "\t"]),
    eol=st.sampled_from(["\n", "\n", "\n", "\r\n"]),
    last=st.sampled_from([True, True, True, False]),
    comments=st.sampled_from([0, 0, 20, 60]),
    seed=st.integers(0, 999),
    mark=st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"]),
)


def one_of(*choices: str) -> st.SearchStrategy[str]:
    return st.sampled_from(choices)


def option(draw: st.DrawFn) -> bool:
    """Something that is there in one program of three."""
    return draw(st.sampled_from([False, False, True]))


_FSDP_IMPORTS = (
    "from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard, MixedPrecisionPolicy\n",
    "from torch.distributed._composable.fsdp import fully_shard, MixedPrecisionPolicy\nfrom torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule\n",
    "from torch.distributed.fsdp import (\n    CPUOffloadPolicy,\n    FSDPModule,\n    fully_shard,\n    MixedPrecisionPolicy,\n)\n",
    "try:\n    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard, MixedPrecisionPolicy\nexcept ImportError:\n    from torch.distributed._composable.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard, MixedPrecisionPolicy\n",
)

_MODULE = "torch.distributed._composable.replicate"
_REPLICATE_IMPORTS = (
    (f"~from {_MODULE} import replicate\n", "replicate", False),
    (f"~from {_MODULE} import replicate\n", "replicate", False),
    (f"~from {_MODULE} import replicate as ddp_replicate\n", "ddp_replicate", False),
    (f"~from {_MODULE} import replicate\n", "replicate", True),
    (f"~from {_MODULE} import (\n~    replicate,\n~)\n", "replicate", False),
    ("~from torch.distributed._composable import replicate\n", "replicate", False),
    (f"~try:\n~    from {_MODULE} import replicate\n~except ImportError:\n~    replicate = None\n", "replicate", False),
)  # fmt: skip
"""(the import, what replicate is called, whether it stands in the function)."""

_SHARDS = (
    ("fsdp_config = {{'mesh': dp_mesh, 'mp_policy': mp_policy}}\n", "fully_shard({m}, **fsdp_config, reshard_after_forward={r})", "fully_shard({m}, **fsdp_config)"),
    ("kwargs = dict(mesh=dp_mesh, mp_policy=mp_policy)\n", "fully_shard({m}, **kwargs, reshard_after_forward={r})", "fully_shard({m}, **kwargs)"),
    ("", "fully_shard({m}, mesh=dp_mesh, mp_policy=mp_policy, reshard_after_forward={r})", "fully_shard({m}, mesh=dp_mesh, mp_policy=mp_policy)"),
    ("", "fully_shard(\n    {m},\n    mesh=dp_mesh,\n    mp_policy=mp_policy,\n    reshard_after_forward={r},\n)", "fully_shard({m}, mesh=dp_mesh, mp_policy=mp_policy)"),
    ("shard = functools.partial(fully_shard, mesh=dp_mesh, mp_policy=mp_policy)\n", "shard({m}, reshard_after_forward={r})", "shard({m})"),
    ("def wrap(module, reshard=True):\n    fully_shard(module, mesh=dp_mesh, mp_policy=mp_policy, reshard_after_forward=reshard)\n\n", "wrap({m}, {r})", "wrap({m})"),
    ("config = {{'mesh': dp_mesh}}\nconfig['mp_policy'] = mp_policy\n", "fully_shard({m}, **config, reshard_after_forward={r})", "fully_shard({m}, **config)"),
    ("fsdp_config = {{'mesh': dp_mesh, 'mp_policy': mp_policy, 'reshard_after_forward': {r}}}\n", "fully_shard({m}, **fsdp_config)", "fully_shard({m}, **fsdp_config)"),
    ("config = dict(mesh=dp_mesh, mp_policy=mp_policy)\n", "_shard({m}, config, {r})", "_shard({m}, config, False)"),
)  # fmt: skip
"""(what comes first, how a module is wrapped, how the root is)."""

_FOLLOWED = [s for s in _SHARDS if "fully_shard({m}" in s[1]]
"""Those that are mirrored; for the others a template stands in, and it is said."""

_DTYPE = "TORCH_DTYPE_MAP[job_config.training.mixed_precision_{}]"
_DTYPES = (_DTYPE.format("param"), _DTYPE.format("reduce"))
_PRECISION = (
    *[
        (
            ("param_dtype: torch.dtype", "reduce_dtype: torch.dtype"),
            (("param_dtype", _DTYPES[0]), ("reduce_dtype", _DTYPES[1])),
            "MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)",
        )
    ]
    * 4,
    (
        ("compute: torch.dtype", "communicate: torch.dtype"),
        (("compute", _DTYPES[0]), ("communicate", _DTYPES[1])),
        "MixedPrecisionPolicy(compute, communicate)",
    ),
    (
        ("mp_policy: MixedPrecisionPolicy",),
        (("mp_policy", f"MixedPrecisionPolicy(param_dtype={_DTYPES[0]}, reduce_dtype={_DTYPES[1]})"),),
        "",
    ),
    (
        ("job_config: object",),
        (("job_config", "job_config"),),
        f"MixedPrecisionPolicy(param_dtype={_DTYPES[0]}, reduce_dtype={_DTYPES[1]})",
    ),
)  # fmt: skip
"""(parameters of apply_fsdp, their arguments, the policy that it makes of them)."""

_TAKEN = (
    "",
    "",
    "",
    "def apply_replicate(model):\n    return model\n",
    "replicate_config = {}\n",
    "def replicate(item, times):\n    return [item] * times\n",
)
"""What has a name already that a new function would have."""

_SHARD_HELPER = """\
def _shard(module, config, reshard):
    fully_shard(module, **config, reshard_after_forward=reshard)
"""

_TRACED = """\
def traced(function):
    return function
"""


@dataclass(frozen=True)
class Wrappers:
    """apply_fsdp and apply_ddp, as a plan calls them.

    Args:
        text: of the file that defines them, imports aside.
        imports: of that file.
        dtypes: (parameter, argument) of apply_fsdp that say in which dtypes it computes.
        options: further arguments of apply_fsdp.
        ddp: which of ``pieces.DDP``.
        summed: whether a training loop wants gradients summed, as apply_fsdp has it.
    """

    text: str
    imports: str
    dtypes: tuple[tuple[str, str], ...]
    options: tuple[str, ...]
    ddp: int
    summed: bool


@st.composite
def wrappers(draw: st.DrawFn) -> Wrappers:
    before, shard, root = draw(st.sampled_from([*_SHARDS, *_FOLLOWED, *_FOLLOWED]))
    typed = draw(st.booleans())
    options: list[str] = []
    reshard = draw(one_of("True", "reshard_after_forward", "not pp_enabled"))
    said, arguments, policy = draw(st.sampled_from(_PRECISION))
    parameters = ["model: nn.Module", "dp_mesh: DeviceMesh", *said]
    if not typed:
        parameters = [p.split(":")[0] for p in parameters]
    if reshard == "reshard_after_forward":
        options.append("reshard_after_forward=job_config.parallelism.reshard")
        parameters.append("reshard_after_forward=True")
    elif reshard != "True":
        options.append("pp_enabled=parallel_dims.pp_enabled")
        parameters.append("pp_enabled: bool = False" if typed else "pp_enabled=False")

    def wrapped(template: str) -> str:
        def call(found: re.Match[str]) -> str:
            again = "False" if found[2] == "last" else reshard
            return indented(shard.format(m=found[3], r=again), found[1])

        return re.sub(r"(?m)^([ ]*)\{(shard|last):([^{}]*)\}$", call, template)

    body = ""
    if option(draw):
        body += '"""\nShard parameters over the data-parallel ranks.\n"""\n'
    if draw(one_of("", "", "cast")):
        policy = re.sub(r"\)$", ", cast_forward_inputs=False)", policy)
    if policy:
        body += f"mp_policy = {policy}\n"
    body += before.format(r=reshard)
    name = re.match(r"(\w+) = ", before)
    if name and "partial" not in before and option(draw):
        parameters.append("cpu_offload: bool = False" if typed else "cpu_offload=False")
        options.append("cpu_offload=job_config.training.enable_cpu_offload")
        body += (
            f"if cpu_offload:\n    {name[1]}['offload_policy'] = CPUOffloadPolicy()\n"
        )
    groups = wrapped(draw(st.sampled_from(pieces.EMBEDDINGS)))
    if option(draw):
        groups = wrapped(draw(st.sampled_from(pieces.VISION))) + groups
    experts = draw(st.sampled_from(pieces.EXPERTS)) if option(draw) else ""
    inside = wrapped(f"{experts}{{shard:transformer_block}}\n")
    groups += draw(st.sampled_from(pieces.BLOCKS)) + indented(inside, "    ")
    if option(draw):
        groups += wrapped(draw(st.sampled_from(pieces.MTP)))
    groups += wrapped(draw(st.sampled_from(pieces.LAST)))
    body += groups + root.format(m="model") + "\n"
    division = option(draw)
    if division:
        body += "\ndisable_fsdp_gradient_division(model)\n"
    if option(draw):
        body += 'logger.info("Applied FSDP to the model")\n'
    if option(draw):
        body += "return model\n"
    if draw(st.booleans()):
        head = "def apply_fsdp(\n" + "".join(f"    {p},\n" for p in parameters) + "):\n"
    else:
        head = f"def apply_fsdp({', '.join(parameters)}):\n"
    fsdp = head + indented(body, "    ")
    number = draw(st.integers(0, len(pieces.DDP) - 1))
    bound, called, local = draw(st.sampled_from(_REPLICATE_IMPORTS))
    ddp = pieces.DDP[number].replace("REPLICATE", called)
    inside = draw(st.sampled_from(pieces.IN_DDP))
    if inside and number == 0:
        ddp = ddp.replace("~    if enable_compile", f"{inside}~    if enable_compile")
    if local:
        first = next(
            n
            for n, line in enumerate(ddp.split("\n"))
            if line.endswith(("):", "None:"))
        )
        rows = ddp.split("\n")
        rows.insert(first + 1, indented(bound, "    ").rstrip("\n"))
        ddp, bound = "\n".join(rows), ""
        if "'''" in ddp:  # a docstring stays first
            ddp = pieces.DDP[0].replace("REPLICATE", called).replace(
                "~    if enable_compile", f"~    {_REPLICATE_IMPORTS[0][0][1:]}~    if enable_compile"
            )  # fmt: skip
            number = 0
    parts = [fsdp, ddp]
    apart = draw(one_of("\n\n", "\n\n", "\n\n", "\n", "\n\n\n"))
    decorated = option(draw) and option(draw)
    if decorated:
        parts[1] = f"~@traced\n{ddp}"
    if division:
        parts.insert(draw(st.integers(0, 2)), pieces.DIVISION)
    if "_shard(" in body.replace("fully_shard(", ""):
        parts.insert(0, _SHARD_HELPER)
    if draw(st.booleans()):
        parts.reverse()
    if decorated:
        parts.insert(0, _TRACED)
    imports = "".join(
        [
            "import functools\n\n" if "functools" in body else "",
            "~import torch\n~import torch.nn as nn\n",
            draw(st.sampled_from(_FSDP_IMPORTS)),
            bound,
            "~from torch.distributed.device_mesh import DeviceMesh\n",
            "~from PACKAGE.tools.logging import logger\n",
        ]
    )
    summed = division and draw(st.booleans())
    return Wrappers(
        apart.join(parts), imports, arguments, tuple(options), number, summed
    )


@st.composite
def plans(draw: st.DrawFn, style: str, made: Wrappers, name: str) -> str:
    """A plan that calls apply_fsdp and apply_ddp by these names."""
    head = f"def {name}(model, parallel_dims, job_config):\n"
    if style == "argument":
        head = f"def {name}(model, world_mesh, parallel_dims, job_config):\n"
    ask = draw(one_of("parallel_dims.fsdp_enabled", "parallel_dims.dp_shard > 1 or parallel_dims.cp > 1"))  # fmt: skip
    also = draw(one_of("parallel_dims.dp_replicate_enabled", "parallel_dims.dp_replicate > 1"))  # fmt: skip
    dtypes = [*made.dtypes]
    first = draw(st.sampled_from(pieces.FIRST))
    if option(draw) and len(dtypes) == 2:
        first += f"param_dtype = {dtypes[0][1]}\n"
        dtypes[0] = (dtypes[0][0], "param_dtype")
    mesh = pieces.SHARDED[style]
    fsdp = ""
    if draw(st.booleans()):
        fsdp += f"mesh_of_shards = {mesh}\n"
        mesh = "mesh_of_shards"
    if draw(st.booleans()):
        arguments = ["model", mesh, *(value for _, value in dtypes)]
    else:
        arguments = ["model", mesh, *(f"{name}={value}" for name, value in dtypes)]
    arguments += made.options
    fsdp += "apply_fsdp(\n" + "".join(f"    {a},\n" for a in arguments) + ")\n"
    if option(draw):
        fsdp += 'logger.info("Applied FSDP to the model")\n'
    ddp = draw(_ddp_branch(style, made))
    branch = fill(
        draw(st.sampled_from(pieces.BRANCHES))
        .replace("FSDP", ask)
        .replace("DDP", also),
        fsdp=fsdp,
        ddp=ddp,
    )
    if ask.count(" or "):
        branch = branch.replace(f"not {ask}", f"not ({ask})").replace(f"and not {ask}", f"and not ({ask})")  # fmt: skip
    if style != "argument" and "param_dtype = " not in first and option(draw):
        helper = "\n\ndef _wrap(model, parallel_dims, job_config):\n" + indented(
            branch + "return model\n", "    "
        )
        branch = "_wrap(model, parallel_dims, job_config)\n"
    else:
        helper = ""
    body = first + branch + draw(st.sampled_from(pieces.THEN)) + "return model\n"
    return head + indented(body, "    ") + helper


@st.composite
def _ddp_branch(draw: st.DrawFn, style: str, made: Wrappers) -> str:
    mesh = draw(st.sampled_from(pieces.MESHES[style]))
    tests = list(pieces.TESTS[style])
    first = ""
    if option(draw):
        first = draw(one_of("~dp_mesh = ", "~dp_mesh: DeviceMesh = ")) + f"{mesh}\n"
        mesh = "dp_mesh"
        tests += pieces.OF_DP_MESH
    guard = draw(st.sampled_from(pieces.GUARDS))
    test = draw(st.sampled_from(tests))
    guard = guard.replace("{test}", test)
    compiles = draw(one_of("job_config.training.compile", "job_config.compile.enable"))
    shapes = [f"model, {mesh}, enable_compile={compiles}", f"model=model, dp_mesh={mesh}, enable_compile={compiles}"]  # fmt: skip
    if made.ddp != 2:
        shapes.append(f"model, {mesh}, {compiles}")
    arguments = draw(st.sampled_from(shapes))
    if made.ddp == 1 and draw(st.booleans()) and "=" in arguments:
        arguments += ", enable_compiled_autograd=job_config.autograd"
    if draw(st.booleans()):
        call = f"+apply_ddp({arguments})\n"
    else:
        rows = "".join(f"~    {a},\n" for a in arguments.split(", "))
        call = f"~apply_ddp(\n{rows}~)\n"
    said = '+logger.info("Applied DDP to the model")\n' if option(draw) else ""
    if guard and option(draw):
        shape = draw(st.sampled_from(pieces.SHAPES)).replace("TEST", test)
        # All of it moves out.
        further = re.sub(r"(?m)^\+", "~", indented(call + said, "    "))
        return first + shape.replace("{further}", further)
    return first + guard + call + said


_FROM_BASE = (
    ("~from PACKAGE.models.base.parallelize import apply_ddp, apply_fsdp\n", "{}"),
    ("~from PACKAGE.models.base.parallelize import (\n~    apply_ddp,\n~    apply_fsdp,\n~)\n", "{}"),
    ("~from ..base.parallelize import apply_ddp, apply_fsdp\n", "{}"),
    ("~from ..base.parallelize import apply_ddp as wrap_ddp\nfrom ..base.parallelize import apply_fsdp\n", "wrap"),
    ("from PACKAGE.models.base.parallelize import *\n", "{}"),
    ("import PACKAGE.models.base.parallelize as base\n", "base.{}"),
    ("from PACKAGE.models.base import parallelize\n", "parallelize.{}"),
    ("~try:\n~    from PACKAGE.models.base.parallelize import apply_ddp, apply_fsdp\n~except ImportError:\n~    from ..base.parallelize import apply_ddp, apply_fsdp\n", "{}"),
    ("~from PACKAGE.models.base import apply_ddp, apply_fsdp\n", "{}"),
    ("~from PACKAGE.models.base import apply_ddp\nfrom PACKAGE.models.base.parallelize import apply_fsdp\n", "{}"),
    ("local", "{}"),
)  # fmt: skip
"""(the import, how the functions are called by it)."""


@st.composite
def _importing(draw: st.DrawFn, style: str, made: Wrappers, name: str) -> str:
    """A file with a plan that takes its wrappers from another."""
    bound, spelled = draw(st.sampled_from(_FROM_BASE))
    text = draw(plans(style, made, name))
    if bound == "local" and "def _wrap" in text:
        bound = _FROM_BASE[0][0]
    elif bound == "local":
        lines = text.split("\n")
        bound = ""
        lines.insert(1, "~    from PACKAGE.models.base.parallelize import apply_ddp, apply_fsdp")  # fmt: skip
        text = "\n".join(lines)
    elif spelled == "wrap":
        text = text.replace("apply_ddp(", "wrap_ddp(")
    else:
        for function in ("apply_ddp", "apply_fsdp"):
            text = text.replace(f"{function}(", f"{spelled.format(function)}(")
    if "MixedPrecisionPolicy" in text:
        bound += "from torch.distributed.fsdp import MixedPrecisionPolicy\n"
    imports = f"~import torch\n\n{bound}from PACKAGE.config import TORCH_DTYPE_MAP\n~from PACKAGE.tools.logging import logger\n"
    parts = [pieces.HELPERS, text]
    return f"{imports}\n\n" + "\n\n".join(parts)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A checkout with ParallelDims, a choice of autocast, a trainer, and one or two plans."""
    package, top = draw(st.sampled_from([("torchtitan", ""), ("torchtitan", ""), ("mytitan", ""), ("mytitan", "src/")]))  # fmt: skip
    style = draw(st.sampled_from(["argument", "attribute", "get_mesh", "get_mesh"]))
    mesh: Mesh = "1d"
    # A ParallelDims as that of get_mesh is not followed for the other target.
    if style != "get_mesh" or option(draw) and option(draw):
        mesh = draw(st.sampled_from(["1d", "2d"]))
    made = draw(wrappers())
    where = f"{top}{package}"
    texts: dict[str, str] = {
        f"{where}/__init__.py": "",
        f"{where}/config.py": pieces.CONFIG,
        f"{where}/tools/logging.py": pieces.LOGGING,
        f"{where}/distributed/parallel_dims.py": pieces.DIMS[style],
    }
    utils = "import contextlib\n\nimport torch\n\nfrom PACKAGE.config import TORCH_DTYPE_MAP\nfrom PACKAGE.tools.logging import logger\n\n\n"
    amp = draw(st.sampled_from(pieces.AMP))
    texts[f"{where}/distributed/utils.py"] = utils + amp
    texts[f"{where}/train.py"] = pieces.TRAIN
    if made.summed:
        texts[f"{where}/loop.py"] = pieces.SUMMED
    base = f"{where}/models/base/parallelize.py"
    texts[f"{where}/models/base/__init__.py"] = (
        "~from .parallelize import apply_ddp, apply_fsdp\n\n~__all__ = ['apply_ddp', 'apply_fsdp']\n"
    )
    found: list[tuple[str, str, str]] = []
    own = draw(st.booleans())
    imports = f"{made.imports}~from PACKAGE.config import TORCH_DTYPE_MAP\n"
    free = _TAKEN if "replicate(model" not in made.text else _TAKEN[:5]
    taken = draw(st.sampled_from(free))
    if own:
        plan = draw(plans(style, made, "parallelize_base"))
        parts = [pieces.HELPERS, plan, made.text]
        if draw(st.booleans()):
            parts.reverse()
        parts.insert(0, taken)
        texts[base] = f"{imports}\n\n" + "\n\n".join(filter(None, parts))
        found.append((base, "parallelize_base", style))
    else:
        texts[base] = f"{imports}\n\n" + "\n\n".join(filter(None, [taken, made.text]))
    if not own or option(draw):
        path = f"{where}/models/other/parallelize.py"
        texts[path] = draw(_importing(style, made, "parallelize_other"))
        found.append((path, "parallelize_other", style))
    files: dict[str, bytes] = {}
    kept: dict[str, list[bytes]] = {}
    comments: dict[str, list[bytes]] = {}
    layout = draw(layouts)
    for number, (path, text) in enumerate(texts.items()):
        of_file = Layout(**{**vars(layout), "seed": layout.seed + 1000 * number})
        done = written(text.replace("PACKAGE", package), of_file)
        files[path] = done.raw
        kept[path], comments[path] = done.kept, done.comments
    return Program(files, kept, comments, found, mesh)
