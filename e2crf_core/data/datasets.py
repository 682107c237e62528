"""Data sets: windows of real series with their channels, units, license and an honest train / held-out split."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.diffusion.spectral import cumulative_energy
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.userfiles import user_folder, user_names


@dataclass(frozen=True)
class Dataset:
    """Windows `x` (S, N, M) in data units, and what is known of them.

    `group` (S,) names what a window was cut from, `start` (S,) its position there. `split` (S,) is 0 for
    training, 1 for held out, 2 for windows left out because they overlap both.
    """

    name: str
    title: str
    domain: str
    x: np.ndarray
    channels: tuple[str, ...]
    units: tuple[str, ...]
    group: np.ndarray
    start: np.ndarray
    split: np.ndarray
    license: str
    source: str
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """N, steps in a window."""
        return self.x.shape[1]

    @property
    def train(self) -> np.ndarray:
        """Indices of training windows."""
        return np.flatnonzero(self.split == 0)

    @property
    def heldout(self) -> np.ndarray:
        """Indices of held-out windows: none overlaps a training window."""
        return np.flatnonzero(self.split == 1)

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        return moments(self.x, self.train)

    @cached_property
    def mean(self) -> np.ndarray:
        """(M,) mean of the training windows."""
        return self._moments[0].astype(np.float32)

    @cached_property
    def std(self) -> np.ndarray:
        """(M,) standard deviation of the training windows, floored so that a constant channel divides safely."""
        return np.maximum(self._moments[1], 1e-6).astype(np.float32)

    def standardize(self, x: np.ndarray) -> np.ndarray:
        """Data units -> zero mean and unit variance per channel."""
        return ((x - self.mean) / self.std).astype(np.float32)

    def unstandardize(self, x: np.ndarray) -> np.ndarray:
        """Inverse of `standardize`."""
        return (x * self.std + self.mean).astype(np.float32)

    @cached_property
    def localization(self) -> np.ndarray:
        """(n, M) share of each channel's energy at frequencies up to k, over all windows."""
        return cumulative_energy(self.x)


def moments(x: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (M,) in float64 of the windows `index` of x (S, N, M), block by block.

    An imported data set may fill a large part of the memory: no copy of it is made.
    """
    blocks = np.array_split(index, max(1, len(index) // 512))
    count = max(1, len(index) * x.shape[1])
    mean = sum(x[block].sum((0, 1), dtype=np.float64) for block in blocks) / count
    square = sum(np.square(x[block] - mean).sum((0, 1)) for block in blocks) / count
    return np.asarray(mean), np.sqrt(square)


def _positions(start: np.ndarray) -> tuple[np.ndarray, bool]:
    """Window starts as numbers (days for dates), and whether they are dates, i.e. shared between groups."""
    if start.dtype.kind in "US":
        return start.astype("datetime64[s]").astype(np.float64) / 86400.0, True
    return start.astype(np.float64), False


def block_split(group: np.ndarray, start: np.ndarray, span: float, share: float, blocks: int) -> np.ndarray:
    """Split windows by contiguous stretches of time: (S,) codes 0 train, 1 held out, 2 left out.

    `blocks` held-out stretches, evenly spread, cover `share` of the time of each group (of the common
    calendar where starts are dates: two turbines on one day are not independent). A window of length `span`
    is held out when it lies inside a stretch, left out when it only overlaps one. Groups too short for a
    stretch to hold a whole window are used for training.
    """
    position, calendar = _positions(start)
    split = np.zeros(len(start), dtype=np.uint8)
    keys = np.zeros(len(start), dtype=int) if calendar else np.unique(group, return_inverse=True)[1]
    for key in np.unique(keys):
        index = np.flatnonzero(keys == key)
        low, high = position[index].min(), position[index].max() + span
        period = (high - low) / blocks
        if period * share < span:
            continue
        for block in range(blocks):
            # The stretch ends its period: the newest data are always held out.
            end = low + (block + 1) * period
            begin = end - share * period
            first, last = position[index], position[index] + span
            tolerance = 1e-9 * max(1.0, abs(end))
            split[index[(first >= begin - tolerance) & (last <= end + tolerance)]] = 1
            partly = (first < end - tolerance) & (last > begin + tolerance)
            inside = (first >= begin - tolerance) & (last <= end + tolerance)
            split[index[partly & ~inside]] = 2
    return split


def shipped_datasets() -> list[str]:
    """Names of the data sets that ship with the lab."""
    return sorted(p.stem for p in (assets_dir() / "data").glob("*.npz"))


def list_datasets() -> list[str]:
    """Names of all data sets: the shipped ones, then those of the user's own folder. A shipped name wins."""
    shipped = shipped_datasets()
    return shipped + [name for name in user_names("data", "dataset.npz") if name not in shipped]


def _locate(name_or_path: str | Path) -> tuple[str, Path, Path]:
    name = str(name_or_path)
    if name in shipped_datasets():
        folder = assets_dir() / "data"
        return name, folder / f"{name}.npz", folder / f"{name}.json"
    own = name in list_datasets()
    path = user_folder("data", name) if own else Path(name_or_path)
    if path.is_dir() and (path / "dataset.npz").is_file():
        return path.name, path / "dataset.npz", path / "card.json"
    if path.is_file() and path.suffix == ".npz":
        return path.stem, path, path.with_suffix(".json")
    raise LabError(
        f"unknown data set {name!r}: use one of {', '.join(list_datasets())}, or a folder made by 'data import'"
    )


def dataset_file(name_or_path: str | Path) -> Path:
    """The file that holds a data set's arrays. Raises LabError when there is none."""
    return _locate(name_or_path)[1]


def _check(path: Path, stored: dict[str, np.ndarray], card: Any) -> None:
    """Refuse arrays and cards that are not a data set of ours."""
    missing = sorted({"X", "channels", "group", "start"} - stored.keys())
    if missing:
        raise LabError(f"{path} is no data set: it lacks {', '.join(missing)}: import it with 'data import'")
    x = stored["X"]
    if x.ndim != 3 or x.dtype.kind not in "iuf" or 0 in x.shape:
        raise LabError(
            f"{path} is no data set: X has shape {x.shape} and type {x.dtype}, not numbers (S, N, M)"
        )
    count, _, width = x.shape
    sizes = {"channels": width, "group": count, "start": count}
    sizes |= {
        key: size for key, size in (("scale", width), ("offset", width), ("split", count)) if key in stored
    }
    for key, size in sizes.items():
        if stored[key].shape != (size,):
            raise LabError(f"{path} is no data set: {key} has shape {stored[key].shape}, X has {x.shape}")
    if ("scale" in stored) != ("offset" in stored):
        raise LabError(f"{path} is no data set: scale and offset belong together")
    if not isinstance(card, dict) or len(card.get("units", [])) not in (0, width):
        raise LabError(f"the card of {path} does not fit its {width} channels")


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Load a data set by name, shipped or the user's own, or one from a folder written by the importer.

    Raises LabError when there is none, or when the file does not have the expected arrays.
    """
    name, path, card_path = _locate(name_or_path)
    stored = read_npz(path)
    try:
        card = json.loads(card_path.read_text(encoding="utf-8")) if card_path.is_file() else {}
    except ValueError as fault:
        raise LabError(f"the card {card_path} cannot be read: {fault}") from None
    _check(path, stored, card)
    x = stored["X"].astype(np.float32, copy=False)
    if "scale" in stored:
        x = (stored["X"] * stored["scale"] + stored["offset"]).astype(np.float32)
    if not np.isfinite(x).all():
        raise LabError(
            f"{path} holds gaps or infinite values: import it with 'data import', which handles them"
        )
    channels = tuple(str(c) for c in stored["channels"])
    rule = card.get("split", {})
    if "split" in stored:
        split = stored["split"].astype(np.uint8)
    else:
        split = block_split(
            stored["group"],
            stored["start"],
            span=float(rule.get("span", x.shape[1])),
            share=float(rule.get("share", 0.2)),
            blocks=int(rule.get("blocks", 5)),
        )
    return Dataset(
        name=name,
        title=str(card.get("title", name)),
        domain=str(card.get("domain", "own data")),
        x=x,
        channels=channels,
        units=tuple(str(u) for u in card.get("units") or ["" for _ in channels]),
        group=stored["group"],
        start=stored["start"],
        split=split,
        license=str(stored.get("license", card.get("license", "not stated"))),
        source=str(stored.get("source", card.get("source", "not stated"))),
        card=card,
    )
