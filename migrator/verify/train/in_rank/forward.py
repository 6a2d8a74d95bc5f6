"""What goes into the model and comes out of its modules, seen by hooks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .measure import plain_name

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle


class Forward:
    """Watches the forwards of a model in training, not those of an evaluation.

    Args:
        model_parts: the model, or this rank's pipeline stages of it.
        outputs: watch the modules too, in the first step; torch.compile would
            have to be told of their hooks.
    """

    def __init__(self, model_parts: list[nn.Module], *, outputs: bool) -> None:
        self._data = hashlib.sha256()
        self._read = False
        self._norms: dict[str, float] = {}
        self._handles: list[RemovableHandle] = []
        model_parts[0].register_forward_pre_hook(self._note_data, with_kwargs=True)
        for part in model_parts if outputs else ():
            for name, module in part.named_modules():
                note = self._note_output(plain_name(name))
                self._handles.append(module.register_forward_hook(note))

    def data(self) -> str | None:
        """The digest of the tokens read since this was last asked; None where none were, as behind a pipeline's first stage."""
        found = self._data.hexdigest()[:16] if self._read else None
        self._data, self._read = hashlib.sha256(), False
        return found

    def norms(self) -> dict[str, float]:
        """Module -> norm of its first output, in the order in which they came; watches no longer."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        return self._norms

    def _note_data(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        import torch

        if not torch.is_grad_enabled():
            return
        for tensor in _tensors((args, kwargs)):
            if not (tensor.is_floating_point() or tensor.is_complex()):
                raw = tensor.detach().cpu().contiguous()
                self._data.update(raw.numpy().tobytes())
                self._read = True

    def _note_output(self, name: str) -> Callable[..., None]:
        import torch

        def note(module: nn.Module, inputs: object, output: Any) -> None:
            if name in self._norms or not torch.is_grad_enabled():
                return
            for tensor in _tensors(output):
                with torch.no_grad():
                    wide = tensor.detach().double()
                    self._norms[name] = float(wide.square().sum()) ** 0.5
                return

        return note


def _tensors(tree: Any) -> Iterator[Any]:
    """The tensors of this rank in what a module takes or gives: of a distributed one, the local part."""
    import torch
    from torch.utils._pytree import tree_leaves

    for leaf in tree_leaves(tree):
        local = getattr(leaf, "_local_tensor", leaf)
        if torch.is_tensor(local):
            yield local
