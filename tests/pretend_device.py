"""Pretend that a model is on an accelerator: its tensors compute here, and what would make the host wait is counted.

A tensor of the device says that it is on `meta`. Reading numbers of it, or an operation whose output has as many
rows as the numbers say, would make the host wait for a real device: each is a *read*. A tensor that goes there is an
*upload*. Operations that mix both sides are refused, as on a real device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from e2crf_core.cuda import Work
from e2crf_core.diffusion.score_model import ScoreModel

DEVICE = torch.device("meta")
READING = {
    "item",
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "nonzero",
    "unique",
    "_unique2",
    "masked_select",
}
MOVING = {"to", "_to_copy", "copy_"}


class There(Tensor):
    """A tensor on the pretended device; `here` holds its numbers."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        return Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )

    def __init__(self, here: Tensor) -> None:
        self.here = here

    def data_ptr(self) -> int:
        """Return where the numbers are."""
        return self.here.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside PretendDevice")


class PretendDevice(TorchDispatchMode):
    """Run everything here; `reads` and `uploads` name the operations that crossed, in order.

    `waits` are the uploads for which the host waits, `copies` count copies to the host for which it does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.uploads: list[str] = []
        self.waits: list[str] = []
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on the numbers, and wrap what would be on the device."""
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        there = [isinstance(x, There) for x in given]
        goes = self._goes(name, args, kwargs, any(there))
        if name in READING and any(there):
            self.reads.append(name)
        elif name in MOVING and there[name == "copy_"] != goes:  # what is copied comes second
            waits = not any(x is True for x in (*args, kwargs.get("non_blocking")))
            if goes:
                self.uploads.append(name)
                self.waits += [name] * waits
            elif waits:
                self.reads.append(name)
            else:
                self.copies += 1
        elif name in ("index", "index_put", "index_put_"):
            masks = [x for x in given[1:] if x.dtype == torch.bool]
            if any(isinstance(x, There) for x in masks):
                self.reads.append(name)
            elif any(there) and not all(there):
                self.uploads.append(name)
        elif any(there) and not all(there):
            host = [x for x, far in zip(given, there, strict=True) if not far]
            assert all(x.dim() == 0 for x in host), f"{name} mixes tensors of both devices"
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        args = tree_map(lambda x: torch.device("cpu") if isinstance(x, torch.device) else x, args)
        here = tree_map(lambda x: x.here if isinstance(x, There) else x, (args, kwargs))
        made = func(*here[0], **here[1])
        if name.endswith("_") and not name.endswith("__") and isinstance(args[0], There):
            return args[0]
        if not goes:
            return made
        return tree_map(lambda x: There(x) if isinstance(x, Tensor) else x, made)

    @staticmethod
    def _goes(name: str, args: Any, kwargs: Any, there: bool) -> bool:
        """Return whether the output is on the device."""
        if name == "copy_":
            return isinstance(args[0], There)
        if name == "to" and len(args) > 1 and isinstance(args[1], Tensor):
            return isinstance(args[1], There)
        named = [x for x in (*args, kwargs.get("device")) if isinstance(x, torch.device)]
        return named[0].type == DEVICE.type if named else there


def moved(model: ScoreModel) -> ScoreModel:
    """Return the model on the pretended device."""
    network = copy.deepcopy(model.network)
    for module in network.modules():
        for kind in (module._parameters, module._buffers):
            kind.update({name: There(x.detach()) for name, x in kind.items() if x is not None})
    tensors = {name: There(getattr(model, name)) for name in ("mu", "v", "mask")}
    return replace(model, network=network, **tensors)


def replayed(work: Work, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
    """Capture a function as a GPU does: its replay reads and writes fixed places."""
    output = torch.zeros_like(work(*inputs))

    def replay() -> None:
        output.copy_(work(*inputs))

    return replay, output
