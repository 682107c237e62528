"""Wait for a GPU, read it without waiting, and run functions of tensors as CUDA graphs, one for each shape."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

Work = Callable[..., Tensor]
Capture = Callable[[Work, tuple[Tensor, ...]], tuple[Callable[[], None], Tensor]]
"""Function (work, inputs) -> (replay, output): `replay` computes `work` anew from `inputs` into `output`."""

WARM_UPS = 3
KEPT = 16
"""Graphs that are kept of a function, those used last: each holds memory of its own."""


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that the next clock reading is meaningful."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def to_host(x: Tensor) -> Tensor:
    """Return a copy of x on the host, which the device fills when it gets there: see `mark`.

    The copy lies in page-locked memory, of which torch keeps blocks that are no longer used for the next copies.
    """
    place = torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda)
    return place.copy_(x, non_blocking=True)


def mark(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until the device has done what it has been given so far."""
    if device.type != "cuda":
        return _nothing
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def _nothing() -> None:
    """Wait for a host that has done everything already."""


def capture_on_cuda(work: Work, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
    """Capture `work` as a CUDA graph that reads `inputs`, after a warm-up on a stream of its own."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads, as those of a server, may use the GPU meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = work(*inputs)
    return graph.replay, output


class Captured:
    """Calls `work`, a function of tensors without decisions, as one launch; inputs are copied to fixed places."""

    def __init__(self, work: Work, capture: Capture = capture_on_cuda) -> None:
        self._work, self._capture = work, capture
        self._kept: dict[object, tuple[tuple[Tensor, ...], Callable[[], None], Tensor]] = {}
        self._lock = Lock()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return a copy of the output, which the next call does not overwrite."""
        shapes = tuple((x.shape, x.dtype, x.device) for x in inputs)
        with self._lock:
            if shapes not in self._kept:
                places = tuple(x.clone() for x in inputs)
                self._kept[shapes] = (places, *self._capture(self._work, places))
            self._kept[shapes] = places, replay, output = self._kept.pop(shapes)
            for forgotten in list(self._kept)[:-KEPT]:
                del self._kept[forgotten]
            for place, x in zip(places, inputs, strict=True):
                place.copy_(x)
            replay()
            return output.clone()
