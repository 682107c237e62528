"""The five original data sets, tested on small synthetic files: shapes and choices of the paper's code."""

import numpy as np
import pandas as pd
import pytest

from e2crf_core.data.datasets import load_dataset
from e2crf_core.data.original_datasets import LOADERS, bin_means, import_original, random_split
from e2crf_core.errors import LabError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_ecg(folder, rng):
    for name, rows in (("train", 30), ("test", 10)):
        values = rng.random((rows, 187)).round(6)
        np.savetxt(
            folder / f"mitbih_{name}.csv",
            np.column_stack([values, np.zeros(rows)]),
            delimiter=",",
            fmt="%.6f",
        )


def make_nasdaq(folder, rng, shares=4):
    (folder / "stocks").mkdir()
    days = pd.bdate_range("2018-11-01", "2020-02-28")
    days = [*days[days.year == 2018], *days[days.year == 2019][:252], *days[days.year == 2020]]
    for share in range(shares):
        rows = days[:-100] if share == 3 else days
        table = pd.DataFrame(
            rng.random((len(rows), 6)), columns=["Open", "High", "Low", "Close", "Adj Close", "Volume"]
        )
        table["Close"] = share
        table.insert(0, "Date", [day.strftime("%Y-%m-%d") for day in rows])
        table.to_csv(folder / "stocks" / f"S{share}.csv", index=False)


def make_nasa(folder, rng):
    base = folder / "cleaned_dataset"
    (base / "data").mkdir(parents=True)
    rows = []
    cycles = [("charge", 5100, 2.5), ("charge", 5100, 2.5), ("charge", 4000, 2.5), ("charge", 5100, 11.0)]
    cycles += [("discharge", 2100, 9.0)] * 3 + [("discharge", 1900, 9.0), ("impedance", 10, 1.0)]
    for number, (kind, last, step) in enumerate(cycles):
        time = np.arange(0, last, step)
        table = pd.DataFrame({"Voltage_measured": 4 + time / 1e4})
        for name in ("Current_measured", "Temperature_measured"):
            table[name] = rng.random(len(time))
        side = "load" if kind == "discharge" else "charge"
        table[f"Current_{side}"] = rng.random(len(time))
        table[f"Voltage_{side}"] = rng.random(len(time))
        table["Time"] = time
        table.to_csv(base / "data" / f"{number:05d}.csv", index=False)
        rows.append(
            {
                "type": kind,
                "start_time": "[2010. 7. 21. 15.]",
                "battery_id": "B1",
                "filename": f"{number:05d}.csv",
            }
        )
    pd.DataFrame(rows).to_csv(base / "metadata.csv", index=False)


WEATHER = [
    "PRECTOT",
    "PS",
    "QV2M",
    "T2M",
    "T2MDEW",
    "T2MWET",
    "T2M_MAX",
    "T2M_MIN",
    "T2M_RANGE",
    "TS",
    "WS10M",
    "WS10M_MAX",
    "WS10M_MIN",
    "WS10M_RANGE",
    "WS50M",
    "WS50M_MAX",
    "WS50M_MIN",
    "WS50M_RANGE",
]


def make_droughts(folder, rng, counties=3):
    (folder / "train_timeseries").mkdir()
    days = pd.date_range("2010-12-01", "2012-01-31")
    parts = []
    for county in range(counties):
        table = pd.DataFrame(rng.random((len(days), 18)).round(4), columns=WEATHER)
        table.insert(0, "date", days.strftime("%Y-%m-%d"))
        table.insert(0, "fips", 1001 + 2 * county)
        table["T2M"] = county
        table["score"] = np.where(np.arange(len(days)) % 7 == 0, 1.0, np.nan)
        parts.append(table.drop(index=60) if county == 2 else table)
    pd.concat(parts).to_csv(folder / "train_timeseries" / "train_timeseries.csv", index=False)


MAKERS = {
    "ecg": make_ecg,
    "nasdaq": make_nasdaq,
    "nasa-charge": make_nasa,
    "nasa-discharge": make_nasa,
    "droughts": make_droughts,
}
SHAPES = {
    "ecg": (40, 187, 1),
    "nasdaq": (3, 252, 5),
    "nasa-charge": (2, 251, 4),
    "nasa-discharge": (3, 134, 5),
    "droughts": (2, 365, 13),
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_gives_the_shape_of_the_paper_and_a_data_set_that_loads(tmp_path, rng, name):
    MAKERS[name](tmp_path, rng)
    import_original(name, tmp_path, tmp_path / "out")
    data = load_dataset(tmp_path / "out")
    assert data.x.shape == SHAPES[name]
    assert len(data.channels) == SHAPES[name][2]
    assert len(data.train) and len(data.heldout)
    assert len(data.train) + len(data.heldout) == len(data.x)


def test_ecg_takes_no_row_for_a_header_and_keeps_the_test_file_apart(tmp_path, rng):
    make_ecg(tmp_path, rng)
    data = LOADERS["ecg"](tmp_path)
    first = np.loadtxt(tmp_path / "mitbih_train.csv", delimiter=",")[:, :187]
    np.testing.assert_allclose(data.x[:30, :, 0], first, rtol=1e-6)
    assert data.split.tolist() == [0] * 30 + [1] * 10


def test_nasdaq_takes_whole_years_of_raw_prices_in_the_stated_order(tmp_path, rng):
    make_nasdaq(tmp_path, rng)
    data = LOADERS["nasdaq"](tmp_path)
    assert data.channels == ("Adj Close", "Close", "High", "Low", "Open")
    assert data.group.tolist() == ["S0", "S1", "S2"]
    np.testing.assert_array_equal(data.x[:, :, 1], np.arange(3)[:, None].repeat(252, axis=1))
    table = pd.read_csv(tmp_path / "stocks" / "S1.csv")
    year = table[table["Date"].str.startswith("2019")]
    np.testing.assert_allclose(data.x[1, :, 2], year["High"], rtol=1e-6)
    assert "1 shares without exactly 252 days" in data.notes[0]


def test_nasa_leaves_out_short_and_broken_cycles_and_averages_the_rest(tmp_path, rng):
    make_nasa(tmp_path, rng)
    charge = LOADERS["nasa-charge"](tmp_path)
    assert charge.group.tolist() == ["00000", "00001"]
    # Every second 10 s bin of a straight line: its means lie 3.75 s into each bin of four readings.
    np.testing.assert_allclose(charge.x[0, :, 0], 4 + (np.arange(251) * 20 + 3.75) / 1e4, rtol=1e-6)
    assert LOADERS["nasa-discharge"](tmp_path).group.tolist() == ["00004", "00005", "00006"]


def test_bins_take_their_own_readings_only():
    means = bin_means(np.array([[1.0], [3.0], [10.0], [99.0]]), np.array([0.0, 9.9, 10.0, 40.0]), 10.0, 3)
    np.testing.assert_array_equal(means[:2, 0], [2.0, 10.0])
    assert np.isnan(means[2, 0])


def test_droughts_drop_gapped_and_derived_columns_and_pivot_by_county(tmp_path, rng):
    make_droughts(tmp_path, rng)
    data = LOADERS["droughts"](tmp_path)
    assert "score" not in data.channels and not {"TS", "T2M_MAX"} & set(data.channels)
    np.testing.assert_array_equal(data.x[:, :, data.channels.index("T2M")], [[0.0] * 365, [1.0] * 365])
    assert data.group.tolist() == ["1001", "1003"]


@pytest.mark.parametrize(("count", "train"), [(5364, 4827), (3108, 2797), (10, 9)])
def test_a_tenth_is_held_out_by_the_same_draw_every_time(count, train):
    split = random_split(count)
    assert (split == 0).sum() == train
    np.testing.assert_array_equal(split, random_split(count))


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(LabError, match="original layout"):
        LOADERS[name](tmp_path)


def test_faults_in_the_files_are_named_by_row_and_column(tmp_path, rng):
    make_nasdaq(tmp_path, rng)
    path = tmp_path / "stocks" / "S1.csv"
    lines = path.read_text().splitlines()
    lines[77] = lines[77].rsplit(",", 3)[0] + ",n.a!,1,1"
    path.write_text("\n".join(lines))
    with pytest.raises(LabError, match=r"S1\.csv: row 78, column 'Close': 'n\.a!'"):
        LOADERS["nasdaq"](tmp_path)


def test_metadata_cannot_point_outside_its_folder(tmp_path, rng):
    make_nasa(tmp_path, rng)
    path = tmp_path / "cleaned_dataset" / "metadata.csv"
    path.write_text(path.read_text().replace("00001.csv", "../../secret.csv"))
    with pytest.raises(LabError, match="no plain file name"):
        LOADERS["nasa-charge"](tmp_path)
