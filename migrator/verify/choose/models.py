"""Which models of a checkout can be trained, by parsing alone.

torchtitan looks a model up by name: 0.2.0 to 0.2.2 in the sets
`_supported_models` and `_supported_experiments`, 0.1.0 and some experiments among
those that `register_train_spec` was called for. What has neither is listed too,
with the reason, so that nobody takes it for verified.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from migrator.verify.choose.scenarios import Settings
from migrator.verify.errors import VerifyError

_REGISTRIES = (
    ("models", "_supported_models"),
    ("experiments", "_supported_experiments"),
)
GRAFTED = "torchtitan/.grafted"
"""Marks, in a tree that is run, a torchtitan that the checkout uses and does not hold."""

USUAL = "debugmodel"
"""The flavor that is meant where none is named."""

# A part of a model that casts itself when it is built.
_BUILT_IN_BF16 = re.compile(rb"\)\.to\(\s*torch\.bfloat16\s*\)")
_TRAINERS = ("train.py", "trainer.py", "engine.py", "example_train.py")


@dataclass(frozen=True)
class Model:
    """A model and one of its flavors. Its title is `name`, `name/flavor`, `name:tied` or `name:untied`.

    name: as `model.name` has it. settings: what its job configuration needs
    besides. overrides: arguments of the model itself. bf16: whether parts of it
    are built in bf16, so that it does not train in float32. experts: whether it can
    have experts (Mixture of Experts). reason: why it
    cannot be trained, empty where it can. place: its folder, from that of the package.
    """

    name: str
    flavor: str = USUAL
    settings: Settings = field(default_factory=dict)
    overrides: dict[str, bool] = field(default_factory=dict)
    bf16: bool = False
    experts: bool = False
    reason: str = ""
    place: str = ""

    @property
    def title(self) -> str:
        """Name, flavor where it is not the usual one, and what is overridden."""
        tied = self.overrides.get("enable_weight_tying")
        ending = {True: ":tied", False: ":untied", None: ""}[tied]
        flavor = "" if self.flavor == USUAL else f"/{self.flavor}"
        return f"{self.name}{flavor}{ending}"

    @property
    def folder_name(self) -> str:
        """The title as the name of a folder."""
        return folder_name(self.title)


def folder_name(title: str) -> str:
    """The name of the folder that keeps what a model of this title left."""
    return title.replace("/", "-").replace(":", "-")


def models_of(tree: Path) -> dict[str, Model]:
    """Every model of a checkout by title, first torchtitan's own, then experiments; `tree` holds `torchtitan/`.

    A model with several debug flavors occurs once for each, one that can tie its
    embeddings once more for the other way.
    """
    package = tree / "torchtitan"
    if (tree / GRAFTED).is_file():
        return {model.title: model for model in _own_models(tree)}
    places = {place: name for name, place in _registered(package)}
    found: list[Model] = []
    for place, name in places.items():
        below = package in place.parents
        shown = place.relative_to(package).as_posix() if below else ""
        flavors = _flavors(package, place, name)
        found += [replace(model, place=shown) for model in flavors]
    for folder in _model_folders(package):
        if not any(folder == place or folder in place.parents for place in places):
            shown = folder.relative_to(package).as_posix()
            why = _why_no_model(folder)
            found.append(Model(shown, reason=why, place=shown))
    return {model.title: model for model in found}


def _own_models(tree: Path) -> Iterator[Model]:
    """What a checkout registers that uses a torchtitan which it does not hold.

    Raises VerifyError where that is nothing.
    """
    found = False
    for path in _files(tree):
        raw = path.read_bytes()
        if tree / "torchtitan" in path.parents or b"register_train_spec(" not in raw:
            continue
        for name, flavors in _specs_in(path):
            found = True
            parts = path.relative_to(tree).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            settings: Settings = {"experimental": {"custom_import": module}}
            debug = [flavor for flavor in flavors if "debug" in flavor]
            for flavor in debug or flavors[:1] or [USUAL]:
                yield Model(name, flavor, settings)
    if not found:
        raise VerifyError(
            "This checkout registers no train spec (register_train_spec), by which torchtitan's"
            " trainer, and the rehearsal, find a model: its plans are executed with stand-ins"
            " when they are written, and trained by its own trainer only."
        )


def _specs_in(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(name, flavors) of each train spec that a module registers by a constant name."""
    for node in _statements(path):
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and _called(call) == "register_train_spec":
                name = _registered_name(call)
                if name:
                    yield name, list(_made([ast.Module(_statements(path), [])]))


def changed(tree: Path, files: Sequence[str]) -> list[Model]:
    """The models in whose folders something was changed, each in the first of its debug flavors; all, where it is in none.

    files: what was changed, from wherever the checkout's root is.
    """
    first = {model.name: model for model in reversed(models_of(tree).values())}
    known = list(reversed(first.values()))
    return [
        model
        for model in known
        if any(f"torchtitan/{model.place}/" in f"/{path}" for path in files)
    ] or known


def one_of(candidates: Sequence[Model]) -> list[Model]:
    """The one that is trained where nobody says which: llama3, else the first that can be; none where none can."""
    able = [model for model in candidates if not model.reason]
    return sorted(able, key=lambda model: model.name != "llama3")[:1]


def choose(tree: Path, wanted: Sequence[str], files: Sequence[str] = ()) -> list[Model]:
    """The models of these titles, each once. Raises VerifyError for a title that there is not, and for none at all.

    "all" stands for every model in the first of its debug flavors, with tied and
    with untied embeddings where it knows both; "changed" for those of `changed`.
    """
    known = models_of(tree)
    able = [title for title, model in known.items() if not model.reason]
    names = ", ".join([*able, "changed and all"])
    wanted = [title for title in dict.fromkeys(wanted) if title]
    if not wanted:
        raise VerifyError(f"No model is named to train: there are {names}.")
    if "all" in wanted:
        first: dict[str, str] = {}
        for model in known.values():
            first.setdefault(model.name, model.flavor)
        tying = {model.name for model in known.values() if model.overrides}
        return [
            model
            for model in known.values()
            if model.flavor == first[model.name]
            and bool(model.overrides) == (model.name in tying)
        ]
    if "changed" in wanted:
        return changed(tree, files)
    for title in wanted:
        if title not in known:
            close = get_close_matches(title, known, n=1)
            hint = f"did you mean {close[0]}? There" if close else "there"
            raise VerifyError(f"There is no model {title} here: {hint} are {names}.")
    return [known[title] for title in wanted]


def _registered(package: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of what the trainer can look up."""
    for folder, variable in _REGISTRIES:
        init = package / folder / "__init__.py"
        for node in _statements(init):
            if not isinstance(node, (ast.Assign, ast.AnnAssign)):
                continue
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if not isinstance(target, ast.Name) or target.id != variable:
                continue
            # An annotation may stand without a value.
            for constant in ast.walk(node.value) if node.value else ():
                if isinstance(constant, ast.Constant) and constant.value:
                    name = str(constant.value)
                    yield name, package / folder / name.replace(".", "/")
    for path in _files(package):
        if b"register_train_spec(" not in path.read_bytes():
            continue
        for node in _statements(path):
            call = node.value if isinstance(node, ast.Expr) else None
            if isinstance(call, ast.Call) and _called(call) == "register_train_spec":
                registered = _registered_name(call)
                if registered:
                    yield registered, path.parent


def _registered_name(call: ast.Call) -> str | None:
    if call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    for node in ast.walk(call):
        if isinstance(node, ast.keyword) and node.arg == "name":
            return str(getattr(node.value, "value", "")) or None
    return None


def _flavors(package: Path, folder: Path, name: str) -> Iterator[Model]:
    """A registered model in each of its debug flavors, or with the reason why in none."""
    # A name such as "../x" leads out of the package.
    inside = package in folder.parents
    if not inside or not (folder / "__init__.py").is_file():
        reason = f"{name} is registered, but has no folder"
        yield Model(name, reason=reason)
        return
    model = Model(name, settings=_settings(package, folder))
    trainer = folder / "train.py"
    if trainer.is_file():
        shown = trainer.relative_to(package.parent).as_posix()
        why = f"it has a trainer of its own ({shown}), and verify starts torchtitan's"
        yield replace(model, reason=why)
        return
    parsed: list[ast.Module] = []
    for path in _with_configurations(package, folder):
        try:
            parsed.append(ast.parse(path.read_bytes()))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            shown = path.relative_to(package.parent).as_posix()
            line = getattr(error, "lineno", None)
            where = f"{shown}:{line}" if line else shown
            yield replace(model, reason=f"cannot be read: {where} does not parse")
            return
    made = _made(parsed)
    flavors = [key for key in made if "debug" in key]
    if not flavors:
        yield replace(
            model, reason="it has no debug flavor, which is what verify trains"
        )
    code = b"\n".join(path.read_bytes() for path in _files(folder))
    model = replace(model, bf16=bool(_BUILT_IN_BF16.search(code)))
    # Where a flavor has to ask for experts, those that do not have none.
    asked = [key for key, how in made.items() if "moe_enabled" in how]
    ties = b"enable_weight_tying" in code
    for flavor in flavors:
        experts = b"num_experts" in code and flavor in (asked or flavors)
        model = replace(model, flavor=flavor, experts=experts)
        yield model
        for tied in (True, False) if ties else ():
            overrides = {"enable_weight_tying": tied}
            yield replace(model, overrides=overrides)


def _made(parsed: Sequence[ast.Module]) -> dict[str, str]:
    """What is in dictionaries, by its key: flavors, and how each is made."""
    return {
        key.value: ast.unparse(value)
        for module in parsed
        for node in ast.walk(module)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def _with_configurations(package: Path, folder: Path) -> list[Path]:
    """The file in which a model's flavors are, and those of this package that it imports names from."""
    init = folder / "__init__.py"
    found = [init]
    for node in _statements(init):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                start = folder
                for _ in range(node.level - 1):
                    start = start.parent
            elif parts[:1] == ["torchtitan"]:
                start, parts = package, parts[1:]
            else:
                continue
            other = start.joinpath(*parts, "__init__.py")
            names = [alias.name for alias in node.names]
            if other.is_file() and any("config" in n or "args" in n for n in names):
                found.append(other)
    return found


def _settings(package: Path, folder: Path) -> Settings:
    """What the trainer has to be told to find a model: a module to import, a configuration of its own."""
    settings: Settings = {}
    dotted = ".".join(folder.relative_to(package.parent).parts)
    listed = [package / sub / "__init__.py" for sub, _ in _REGISTRIES]
    imported = {
        alias.name
        for path in listed
        for node in _statements(path)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    init = folder / "__init__.py"
    registers = init.is_file() and b"register_train_spec(" in init.read_bytes()
    if registers and dotted not in imported:
        settings["experimental"] = {"custom_import": dotted}
    for place in (folder, folder.parent):
        if (place / "job_config.py").is_file() and place != package / "experiments":
            module = ".".join(place.relative_to(package.parent).parts)
            settings["job"] = {"custom_config_module": f"{module}.job_config"}
            break
    return settings


def _model_folders(package: Path) -> list[Path]:
    return sorted(
        folder
        for sub, _ in _REGISTRIES
        for folder in (package / sub).glob("*/")
        if folder.is_dir() and _files(folder)
    )


def _why_no_model(folder: Path) -> str:
    trainers = [path for name in _TRAINERS for path in folder.rglob(name)]
    if trainers:
        shown = trainers[0].relative_to(folder.parent.parent.parent).as_posix()
        return f"it has a trainer of its own ({shown}), and verify starts torchtitan's"
    return "it registers no model that torchtitan's trainer could look up"


def _statements(path: Path) -> list[ast.stmt]:
    """The statements of a module; none where there is no such file or it does not parse."""
    try:
        return ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []


def _files(folder: Path) -> list[Path]:
    """The Python files below a folder, without links that lead nowhere and folders called x.py."""
    return sorted(path for path in folder.rglob("*.py") if path.is_file())


def _called(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))
