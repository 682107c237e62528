"""Define data sets: windows of real series with channels, units, license, and a train / held-out split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.cards import DataCard
from e2crf_core.diffusion.spectral import cumulative_energy
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.json_files import read_json, validated
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.sets import read_set, settle
from e2crf_core.io.userfiles import user_folder, user_names


@dataclass(frozen=True)
class Dataset:
    """The windows `x` (S, N, M) in data units, with their metadata.

    `group` (S,) names the source of each window and `start` (S,) its position there. `split` (S,) is 0 for
    training, 1 for held out, 2 for windows left out because they overlap both. `folder` is the absolute path
    of a data set that is not found by its name.
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
    folder: str = ""

    @property
    def reference(self) -> str:
        """Return a reference for `load_dataset` that works anywhere: the name, or an absolute path."""
        return self.folder or self.name

    @cached_property
    def digest(self) -> str:
        """Return a SHA-256 over windows, split, and channels; it identifies what a model was trained on."""
        digest = hashlib.sha256(repr((self.x.shape, self.channels)).encode())
        digest.update(np.ascontiguousarray(self.x).data)
        digest.update(np.ascontiguousarray(self.split).data)
        return digest.hexdigest()

    @property
    def length(self) -> int:
        """Return N, the steps in a window."""
        return self.x.shape[1]

    @property
    def train(self) -> np.ndarray:
        """Return the indices of training windows."""
        return np.flatnonzero(self.split == 0)

    @property
    def heldout(self) -> np.ndarray:
        """Return the indices of held-out windows, none of which overlaps a training window."""
        return np.flatnonzero(self.split == 1)

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        return moments(self.x, self.train)

    @cached_property
    def mean(self) -> np.ndarray:
        """Return the mean (M,) of the training windows."""
        return self._moments[0].astype(np.float32)

    @cached_property
    def std(self) -> np.ndarray:
        """Return the standard deviation (M,) of the training windows, floored to make division safe."""
        return floored(*self._moments).astype(np.float32)

    def standardize(self, x: np.ndarray) -> np.ndarray:
        """Scale data units to zero mean and unit variance per channel."""
        return ((x - self.mean) / self.std).astype(np.float32)

    @cached_property
    def localization(self) -> np.ndarray:
        """Return (n, M) the share of each channel's energy at frequencies up to k, over all windows."""
        return cumulative_energy(self.x)


def moments(x: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (M,), in float64, of the windows `index` of x (S, N, M).

    Works block by block without a copy, because an imported data set may fill much of the memory.
    """
    blocks = np.array_split(index, max(1, len(index) // 512))
    count = max(1, len(index) * x.shape[1])
    mean = sum(x[block].sum((0, 1), dtype=np.float64) for block in blocks) / count
    square = sum(np.square(x[block] - mean).sum((0, 1)) for block in blocks) / count
    return np.asarray(mean), np.sqrt(square)


def floored(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Floor `std` (M,) at the float32 resolution of each channel's own scale; 1 for a channel of zeros.

    Any fixed floor would call a series in tesla or picoamperes constant.
    """
    floor = np.finfo(np.float32).eps * np.hypot(mean, std)
    return np.where(floor > 0, np.maximum(std, floor), 1.0)


def _positions(start: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return window starts as numbers (days for dates), and whether they are dates shared between groups."""
    if start.dtype.kind in "US":
        return start.astype("datetime64[s]").astype(np.float64) / 86400.0, True
    return start.astype(np.float64), False


def block_split(group: np.ndarray, start: np.ndarray, span: float, share: float, blocks: int) -> np.ndarray:
    """Split windows by contiguous stretches of time: (S,) codes 0 train, 1 held out, 2 left out.

    `blocks` evenly spread held-out stretches cover `share` of each group's time (of the common calendar if
    starts are dates: two turbines on the same day are not independent). A window of length `span` is held out
    if it lies inside a stretch, and left out if it only overlaps one. Groups too short for a stretch to hold
    a whole window are used for training.
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
            # The stretch ends its period, so the newest data are always held out.
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
    """Return the names of the shipped data sets."""
    return sorted(p.stem for p in (assets_dir() / "data").glob("*.npz"))


def list_datasets() -> list[str]:
    """Return all data set names: shipped ones, then those in the user's folder. A shipped name wins."""
    shipped = shipped_datasets()
    return shipped + [name for name in user_names("data", "dataset.npz") if name not in shipped]


def check_new_dataset(out: str | Path) -> None:
    """Reject a folder for a new data set whose name belongs to a shipped one. Raises LabError.

    Loading that name would always find the shipped data set.
    """
    if Path(out).resolve().name in shipped_datasets():
        raise LabError(
            f"{Path(out).name!r} is the name of a data set that ships with the lab",
            field="out",
            remedy="choose another name",
        )


FEWEST_HELDOUT = 8
"""The fewest held-out windows against which quality is measured."""


def require_heldout(dataset: Dataset) -> None:
    """Reject a data set with too few held-out windows to measure a model. Raises LabError."""
    count = len(dataset.heldout)
    if count < FEWEST_HELDOUT:
        raise LabError(
            f"data set {dataset.name!r} has {count} held-out windows, at least {FEWEST_HELDOUT} are needed to measure"
            " quality",
            field="data",
            remedy="import it with a smaller window or stride, or bring more data",
        )


@dataclass(frozen=True)
class _Place:
    """The place of a data set: array file, card, and absolute path if its name does not find it."""

    name: str
    arrays: Path
    card: Path
    folder: str = ""


def _locate(name_or_path: str | Path) -> _Place:
    name = str(name_or_path)
    if name in shipped_datasets():
        folder = assets_dir() / "data"
        return _Place(name, folder / f"{name}.npz", folder / f"{name}.json")
    own = name in list_datasets()
    path = user_folder("data", name) if own else Path(name_or_path)
    if path.is_dir():
        settle(path)
    if path.is_dir() and (path / "dataset.npz").is_file():
        where = "" if own else str(path.resolve())
        return _Place(path.resolve().name, path / "dataset.npz", path / "card.json", where)
    if path.is_file() and path.suffix == ".npz":
        return _Place(path.stem, path, path.with_suffix(".json"), str(path.resolve()))
    raise LabError(
        f"unknown data set {name!r}",
        field="data",
        remedy=f"use one of {', '.join(list_datasets())}, or the folder of an imported data set",
    )


def dataset_file(name_or_path: str | Path) -> Path:
    """Return the file that holds a data set's arrays. Raises LabError if there is none."""
    return _locate(name_or_path).arrays


def _check(path: Path, stored: dict[str, np.ndarray], card: DataCard) -> None:
    """Reject arrays and cards that are not a data set. Raises LabError."""
    wrong = f"{path} is no data set"
    missing = sorted({"X", "channels", "group", "start"} - stored.keys())
    if missing:
        raise LabError(f"{wrong}: it lacks {', '.join(missing)}", remedy="import the file first")
    x = stored["X"]
    if x.ndim != 3 or x.dtype.kind not in "iuf" or 0 in x.shape:
        raise LabError(f"{wrong}: X has shape {x.shape} and type {x.dtype}, not numbers (S, N, M)")
    count, _, width = x.shape
    sizes = {"channels": width, "group": count, "start": count}
    sizes |= {key: n for key, n in (("scale", width), ("offset", width), ("split", count)) if key in stored}
    for key, size in sizes.items():
        if stored[key].shape != (size,):
            raise LabError(f"{wrong}: {key} has shape {stored[key].shape}, X has {x.shape}")
    if ("scale" in stored) != ("offset" in stored):
        raise LabError(f"{wrong}: scale and offset belong together")
    if len(card.units) not in (0, width):
        raise LabError(f"the card of {path} does not fit its {width} channels")


def _unpacked(stored: dict[str, np.ndarray]) -> np.ndarray:
    if "scale" in stored:
        return (stored["X"] * stored["scale"] + stored["offset"]).astype(np.float32)
    return stored["X"].astype(np.float32, copy=False)


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Load a data set by name, shipped or the user's own, or from a folder written by the importer.

    Raises LabError if it does not exist or its file lacks the expected arrays.
    """
    place = _locate(name_or_path)
    return read_set(place.arrays.parent, (place.arrays.name, place.card.name), lambda: _load(place))


def _load(place: _Place) -> Dataset:
    path = place.arrays
    stored = read_npz(path)
    plain = read_json(place.card) if place.card.is_file() else {}
    card = validated(DataCard, plain, f"the card {place.card}")
    _check(path, stored, card)
    x = _unpacked(stored)
    if not np.isfinite(x).all():
        raise LabError(f"{path} holds gaps or infinite values", remedy="import the file, which handles them")
    channels = tuple(str(c) for c in stored["channels"])
    split = stored.get("split")
    if split is None:
        rule = card.split
        span = rule.span or float(x.shape[1])
        split = block_split(stored["group"], stored["start"], span=span, share=rule.share, blocks=rule.blocks)
    return Dataset(
        name=place.name,
        title=card.title or place.name,
        domain=card.domain,
        x=x,
        channels=channels,
        units=tuple(card.units or ["" for _ in channels]),
        group=stored["group"],
        start=stored["start"],
        split=split.astype(np.uint8),
        license=str(stored.get("license", card.license)),
        source=str(stored.get("source", card.source)),
        # An entry of null is none.
        card={name: value for name, value in plain.items() if value is not None},
        folder=place.folder,
    )
