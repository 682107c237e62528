"""Import the five data sets of Crabbe et al. 2024 (arXiv:2402.05933) from files in their original layout.

None of them ships with the lab. Processing follows that paper's public code, as far as the shapes it reports
show, with two deliberate differences: no row is taken for a header if there is none (the ECG set has 87,554
training beats, not 87,553), and held-out members are drawn by NumPy (10%, seed 42; not the same members).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from e2crf_core.data.numbers import BadCell, NumberStyle, numbers
from e2crf_core.data.sources import CsvSource
from e2crf_core.data.writing import write_dataset
from e2crf_core.errors import LabError

BEAT = 187
TRADING_DAYS = 252
STOCK_COLUMNS = ("Adj Close", "Close", "High", "Low", "Open")
CHARGE_COLUMNS = ("Voltage_measured", "Current_measured", "Current_charge", "Voltage_charge")
DISCHARGE_COLUMNS = (
    "Voltage_measured",
    "Current_measured",
    "Temperature_measured",
    "Current_load",
    "Voltage_load",
)
DROUGHT_YEAR = "2011"
DROUGHT_DROPPED = ("T2MDEW", "T2MWET", "T2M_MAX", "T2M_MIN", "TS")
HELDOUT_SHARE = 0.1
POINT = NumberStyle()
SEED = 42


@dataclass(frozen=True)
class Original:
    """The windows x (S, N, M) float32, their sources (S,), and split codes (S,): 0 train, 1 held out."""

    x: np.ndarray
    channels: tuple[str, ...]
    group: np.ndarray
    split: np.ndarray
    notes: tuple[str, ...]


def _need(path: Path) -> Path:
    if not path.exists():
        raise LabError(
            f"there is no {path}",
            field="folder",
            remedy="the data set is expected in its original layout there",
        )
    return path


def _columns(source: CsvSource, wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in source.names]
    if missing:
        raise LabError(
            f"{source.path} has no column {missing[0]!r}: its columns are {', '.join(source.names[:12])}"
        )


def _blocks(
    source: CsvSource, numeric: Sequence[str], text: Sequence[str] = ()
) -> Iterator[tuple[np.ndarray, list[list[str]]]]:
    """Yield blocks of (values (rows, columns) float32, NaN for gaps; texts by column). Raises LabError."""
    _columns(source, [*numeric, *text])
    rows = 0
    for batch in source.batches([*numeric, *text]):
        values = np.empty((len(batch[0]), len(numeric)), dtype=np.float32)
        for i, name in enumerate(numeric):
            try:
                values[:, i] = numbers(batch[i], POINT)
            except BadCell as bad:
                row = source.row(rows + bad.index)
                raise LabError(
                    f"{source.path}: row {row}, column {name!r}: {bad.text!r} is not a number"
                ) from None
        yield values, [_strings(array) for array in batch[len(numeric) :]]
        rows += len(values)


def _strings(array: pa.Array) -> list[str]:
    return [str(cell).strip() for cell in array.to_pylist()]


def _whole(source: CsvSource, numeric: Sequence[str]) -> np.ndarray:
    parts = [values for values, _ in _blocks(source, numeric)]
    return np.concatenate(parts) if parts else np.zeros((0, len(numeric)), np.float32)


def random_split(count: int) -> np.ndarray:
    """Return (S,) 0 for int(0.9 S) members and 1 for the others, drawn with seed 42."""
    split = np.ones(count, dtype=np.uint8)
    split[np.random.default_rng(SEED).permutation(count)[: int((1 - HELDOUT_SHARE) * count)]] = 0
    return split


def _gathered(
    windows: list[np.ndarray], names: list[str], channels: Sequence[str], folder: Path, notes: list[str]
) -> Original:
    if len(windows) < 2:
        raise LabError(f"{folder} gives {len(windows)} windows: {'; '.join(notes) or 'its files are empty'}")
    x = np.stack(windows).astype(np.float32)
    return Original(x, tuple(channels), np.array(names), random_split(len(x)), tuple(notes))


def load_ecg(folder: Path) -> Original:
    """Load `mitbih_train.csv`, `mitbih_test.csv`: 187 values and a label a row -> (87554 + 21892, 187, 1)."""
    parts, groups, split = [], [], []
    for code, name in enumerate(("train", "test")):
        source = CsvSource(_need(folder / f"mitbih_{name}.csv"))
        if len(source.names) != BEAT + 1:
            raise LabError(
                f"{source.path} has {len(source.names)} columns: 187 values and a label are expected"
            )
        values = _whole(source, source.names)[:, :BEAT]
        gap = np.argwhere(np.isnan(values))
        if len(gap):
            row, column = source.row(int(gap[0][0])), source.names[gap[0][1]]
            raise LabError(f"{source.path}: row {row}, column {column!r} is empty: a beat has no gaps")
        parts.append(values)
        groups += [name] * len(values)
        split += [code] * len(values)
    x = np.concatenate(parts)[..., None]
    return Original(x, ("ecg",), np.array(groups), np.array(split, dtype=np.uint8), ())


def load_nasdaq(folder: Path) -> Original:
    """Load `stocks/*.csv`, one share each: the 252 trading days of 2019, raw prices -> (S, 252, 5)."""
    windows, names, short, gapped = [], [], 0, 0
    for path in sorted(_need(folder / "stocks").glob("*.csv")):
        rows = []
        for values, (dates,) in _blocks(CsvSource(path), STOCK_COLUMNS, ("Date",)):
            keep = np.array([date.startswith("2019-") for date in dates], dtype=bool)
            rows.append(values[keep])
        year = np.concatenate(rows) if rows else np.zeros((0, 5))
        if len(year) != TRADING_DAYS:
            short += 1
        elif np.isnan(year).any():
            gapped += 1
        else:
            windows.append(year)
            names.append(path.stem)
    notes = [f"{short} shares without exactly 252 days in 2019", f"{gapped} shares with gaps were left out"]
    return _gathered(windows, names, STOCK_COLUMNS, folder, notes)


def bin_means(values: np.ndarray, time: np.ndarray, step: float, count: int) -> np.ndarray:
    """Average values (T, M) over `count` bins of `step` seconds from time 0; NaN for an empty bin."""
    slot = np.floor(time / step).astype(int)
    inside = (slot >= 0) & (slot < count)
    number = np.bincount(slot[inside], minlength=count)
    sums = [np.bincount(slot[inside], weights=column[inside], minlength=count) for column in values.T]
    with np.errstate(invalid="ignore"):
        return np.stack(sums, axis=1) / number[:, None]


def _nasa(
    folder: Path, kind: str, channels: Sequence[str], *, last: float, step: float, count: int, every: int
) -> Original:
    """Load cycles of one kind that last long enough without a gap in their time stamps, as bin means."""
    base = _need(folder / "cleaned_dataset")
    metadata = CsvSource(_need(base / "metadata.csv"))
    windows, names, left = [], [], 0
    for _, (kinds, files) in _blocks(metadata, (), ("type", "filename")):
        for cycle, file in zip(kinds, files, strict=True):
            if cycle != kind:
                continue
            if Path(file).name != file or file in (".", ".."):
                raise LabError(f"{metadata.path}: {file!r} is no plain file name: refused")
            table = _whole(CsvSource(_need(base / "data" / file)), [*channels, "Time"])
            table = table[~np.isnan(table).any(1)]
            time = table[:, -1].astype(np.float64)
            if not len(time) or time[-1] <= last or np.diff(time, prepend=0.0).max() > step:
                left += 1
                continue
            window = bin_means(table[:, :-1].astype(np.float64), time, step, count)[::every]
            if np.isnan(window).any():
                left += 1
                continue
            windows.append(window)
            names.append(Path(file).stem)
    notes = [f"{left} cycles that end by {last:g} s or have a gap of more than {step:g} s were left out"]
    return _gathered(windows, names, channels, folder, notes)


def load_nasa_charge(folder: Path) -> Original:
    """Load `cleaned_dataset`: charging cycles over 5000 s, every second 10 s mean -> (S, 251, 4)."""
    return _nasa(folder, "charge", CHARGE_COLUMNS, last=5000, step=10, count=501, every=2)


def load_nasa_discharge(folder: Path) -> Original:
    """Load `cleaned_dataset`: discharging cycles over 1995 s, 15 s means -> (S, 134, 5)."""
    return _nasa(folder, "discharge", DISCHARGE_COLUMNS, last=1995, step=15, count=134, every=1)


def load_droughts(folder: Path) -> Original:
    """Load `train_timeseries/train_timeseries.csv`: daily weather of US counties in 2011 -> (S, 365, 13).

    Columns with gaps in that year, or derived from other columns, are dropped. Streams the file (2 GB).
    """
    source = CsvSource(_need(folder / "train_timeseries" / "train_timeseries.csv"))
    _columns(source, ("fips", "date"))
    weather = tuple(name for name in source.names if name not in ("fips", "date", *DROUGHT_DROPPED))
    parts, counties, days = [], [], []
    for values, (fips, dates) in _blocks(source, weather, ("fips", "date")):
        keep = np.flatnonzero([date.startswith(DROUGHT_YEAR) for date in dates])
        parts.append(values[keep])
        counties += [fips[i] for i in keep]
        days += [dates[i] for i in keep]
    if not counties:
        raise LabError(f"{source.path} has no row of {DROUGHT_YEAR}: its dates must read like 2011-01-31")
    table = np.concatenate(parts)
    whole = ~np.isnan(table).any(0)
    channels = [name for name, kept in zip(weather, whole, strict=True) if kept]
    table = table[:, whole]
    county = np.array(counties)
    order = np.lexsort((np.array(days), county))
    names, first, count = np.unique(county[order], return_index=True, return_counts=True)
    full = count == 365
    windows = [table[order[a : a + 365]] for a in first[full]]
    notes = [f"{int((~full).sum())} counties without 365 days were left out"]
    return _gathered(windows, names[full].tolist(), channels, folder, notes)


LOADERS: dict[str, Callable[[Path], Original]] = {
    "ecg": load_ecg,
    "nasdaq": load_nasdaq,
    "nasa-charge": load_nasa_charge,
    "nasa-discharge": load_nasa_discharge,
    "droughts": load_droughts,
}
_TITLES = {
    "ecg": ("ECG beats (Kaggle, MIT-BIH)", "medicine"),
    "nasdaq": ("NASDAQ 2019", "finance"),
    "nasa-charge": ("NASA battery charge", "industry"),
    "nasa-discharge": ("NASA battery discharge", "industry"),
    "droughts": ("US droughts 2011", "climate"),
}


def import_original(name: str, folder: str | Path, out: str | Path) -> Original:
    """Read one of LOADERS from `folder` and write OUT/dataset.npz and OUT/card.json. Raises LabError."""
    if name not in LOADERS:
        raise LabError(f"unknown data set {name!r}", field="name", remedy=f"use one of {', '.join(LOADERS)}")
    data = LOADERS[name](Path(folder))
    title, domain = _TITLES[name]
    source = f"{title}, local files in their original layout"
    card = {
        "title": title,
        "domain": domain,
        "source": source,
        "license": "that of the local files",
        "window": {"text": f"{data.x.shape[1]} steps", "steps": data.x.shape[1], "stride": data.x.shape[1]},
        "split": {
            "text": "the test file" if name == "ecg" else "10% of the members at random, seed 42",
            "train": int((data.split == 0).sum()),
            "heldout": int((data.split == 1).sum()),
        },
        "notes": list(data.notes),
    }
    arrays = {
        "X": data.x,
        "channels": np.array(data.channels),
        "group": data.group,
        "start": np.arange(len(data.x)),
        "split": data.split,
        "license": np.array(card["license"]),
        "source": np.array(source),
    }
    write_dataset(Path(out), arrays, card)
    return data
