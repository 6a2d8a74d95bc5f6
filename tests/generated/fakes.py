"""Plans of the programs executed by Python itself, with fakes for all that is not theirs.

What ``codemods.execute`` shows with an interpreter of its own is shown once more, with
nothing of it: these programs are ours, so that they may be run.
"""

import builtins
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

REPLICAS, SHARDS = 3, 11
OURS = ("contextlib", "dataclasses", "functools", "typing", "logging")


@dataclass
class World:
    """What is known to all fakes of one run."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    wrapped: dict[str, "Fake"] = field(default_factory=dict)


class Mesh:
    """A mesh of devices by the names and sizes of its dimensions."""

    def __init__(self, names, sizes, root=None):
        self.mesh_dim_names, self.sizes, self.root = tuple(names), tuple(sizes), root
        self.flat: dict[str, Mesh] = {}

    @property
    def ndim(self):
        return len(self.sizes)

    def size(self, dim=None):
        if dim is not None:
            return self.sizes[dim]
        total = 1
        for size in self.sizes:
            total *= size
        return total

    def __getitem__(self, names):
        names = (names,) if isinstance(names, str) else tuple(names)
        known = dict(zip(self.mesh_dim_names, self.sizes))
        known |= {n: m.size() for n, m in (self.root or self).flat.items()}
        missing = [name for name in names if name not in known]
        if missing:
            raise KeyError(f"no dimension {missing}")
        return Mesh(names, [known[n] for n in names], self.root or self)

    def _flatten(self, mesh_dim_name):
        flat = Mesh((mesh_dim_name,), (self.size(),), self.root or self)
        (self.root or self).flat[mesh_dim_name] = flat
        return flat

    def _unflatten(self, dim, sizes, names):
        return Mesh(names, sizes)

    def __repr__(self):
        return f"Mesh({dict(zip(self.mesh_dim_names, self.sizes))})"


class Fake:
    """Whatever is asked of it; calls of what wraps are recorded."""

    def __init__(self, text: str, world: World) -> None:
        self.__dict__.update(text=text, world=world)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "FSDPModule":
            return _wrapped_class(self.world)
        return Fake(f"{self.text}.{name}", self.world)

    def __setattr__(self, name: str, value: object) -> None:
        self.world.events.append(("set", f"{self.text}.{name}", repr(value)))

    def __getitem__(self, key: object) -> "Fake":
        return Fake(f"{self.text}[{key!r}]", self.world)

    def __iter__(self) -> Iterator["Fake"]:
        return iter([self[0], self[1]])

    def __or__(self, other: object) -> "Fake":
        return self

    def __repr__(self) -> str:
        return self.text

    def __enter__(self) -> "Fake":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        owner, _, last = self.text.rpartition(".")
        parent = Fake(owner, self.world)
        if last in ("fully_shard", "replicate"):
            return self._wrap(args, keywords)
        if last in ("items", "named_children"):
            return [("0", parent[0]), ("1", parent[1])]
        if last in ("values", "children"):
            return [parent[0], parent[1]]
        if last == "modules":
            return [*self.world.wrapped.values()]
        shown = [*map(repr, args), *(f"{k}={v!r}" for k, v in sorted(keywords.items()))]
        text = f"{self.text}({', '.join(shown)})"
        if last.startswith(("set_", "parallelize", "requires_grad")):
            self.world.events.append(("call", text))
        if last == "_check" and not args[0]:
            raise RuntimeError(text)
        return Fake(text, self.world)

    def _wrap(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        parts = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
        for part in parts:
            self.world.wrapped[part.text] = part
        given = {k: repr(v) for k, v in keywords.items()}
        ours = "replicate_with_fsdp" in self.text
        kind = "replicate" if ours else self.text.rpartition(".")[2].replace("replicate", "ddp")  # fmt: skip
        self.world.events.append((kind, tuple(part.text for part in parts), given))


def _wrapped_class(world: World) -> type:
    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, Fake) and instance.text in world.wrapped

    return Meta("FSDPModule", (), {})


class Loader:
    """Imports the files of a program, and fakes for all else."""

    def __init__(self, files: Mapping[str, bytes], top: str) -> None:
        self.world = World()
        self.sources = {}
        for path, raw in files.items():
            name = path.removeprefix(top).removesuffix(".py").replace("/", ".")
            self.sources[name.removesuffix(".__init__")] = raw
        self.modules: dict[str, Any] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> Any:
        """A module of the program, a package of it, or a fake."""
        if name in self.modules:
            return self.modules[name]
        inside = any(n.startswith(f"{name}.") for n in self.sources)
        if name not in self.sources and not inside:
            return Fake(name, self.world)
        module = self.modules[name] = types.ModuleType(name)
        module.__dict__["__builtins__"] = self.builtins
        is_package = inside
        module.__dict__["__package__"] = name if is_package else name.rpartition(".")[0]
        if name in self.sources:
            code = compile(self.sources[name], name, "exec")
            exec(code, module.__dict__)
        if name.endswith(".config"):
            module.__dict__["TORCH_DTYPE_MAP"] = Fake("DTYPES", self.world)
        if name.endswith(".logging"):
            module.__dict__["logger"] = Fake("logger", self.world)
        return module

    def _import(self, name, globals=None, locals=None, fromlist=(), level=0):
        if level:
            base = globals["__package__"].split(".")
            base = base[: len(base) - level + 1]
            name = ".".join([*base, *filter(None, [name])])
        if name.split(".")[0] in OURS:
            return builtins.__import__(name, globals, locals, fromlist, 0)
        top = name.split(".")[0]
        if not fromlist:
            if any(n.split(".")[0] == top for n in self.sources):
                self._chain(name)
            return self.load(top)
        if not any(n.split(".")[0] == top for n in self.sources):
            if name.endswith("torch.distributed._composable"):
                return Fake("torch.distributed._composable.replicate", self.world)
            return Fake(name, self.world)
        module = self._chain(name)
        for part in fromlist:
            if part != "*" and not hasattr(module, part):
                inner = f"{name}.{part}"
                if inner not in self.sources:
                    raise ImportError(f"cannot import {part} from {name}")
                setattr(module, part, self.load(inner))
        return module

    def _chain(self, name: str) -> Any:
        parts = name.split(".")
        module = self.load(parts[0])
        for index, part in enumerate(parts[1:], 1):
            inner = self.load(".".join(parts[: index + 1]))
            setattr(module, part, inner)
            module = inner
        return module


def run(
    files: Mapping[str, bytes], plan: tuple[str, str, str], degrees: Mapping[str, int]
) -> tuple[list[tuple[Any, ...]], str]:
    """(what a plan did, how it ended) with these degrees of parallelism."""
    path, name, style = plan
    top = "src/" if path.startswith("src/") else ""
    loader = Loader(files, top)
    package = path.removeprefix(top).split("/")[0]
    full = {**dict.fromkeys(("dp_replicate", "dp_shard", "cp", "tp", "pp", "ep"), 1), **degrees}  # fmt: skip
    total = 1
    for degree in full.values():
        total *= degree
    try:
        dims = loader._chain(f"{package}.distributed.parallel_dims")
        dims.init_device_mesh = lambda device, sizes, mesh_dim_names: Mesh(mesh_dim_names, sizes)  # fmt: skip
        made = dims.ParallelDims(**full, world_size=total)
        module = loader._chain(path.removeprefix(top).removesuffix(".py").replace("/", "."))  # fmt: skip
        loader.world.events.clear()
        given: list[Any] = [Fake("model", loader.world), made, Fake("job_config", loader.world)]  # fmt: skip
        if style == "argument":
            given.insert(1, made.build_mesh("cuda"))
        getattr(module, name)(*given)
    except Exception as error:
        return loader.world.events, f"{type(error).__name__}: {error}"
    return loader.world.events, ""
