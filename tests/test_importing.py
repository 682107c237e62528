"""Each imported file becomes a data set, or is rejected in one line that says where and why."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from e2crf_core.data.datasets import load_dataset
from e2crf_core.data.dialect import sniff
from e2crf_core.data.gaps import Cutting, fill_gaps
from e2crf_core.data.importing import import_file
from e2crf_core.data.steps import parse_step
from e2crf_core.data.survey import survey_file
from e2crf_core.data.tables import Table, resampled
from e2crf_core.data.windows import cut_windows
from e2crf_core.errors import LabError
from tests.rates import rates, refused

ROOT = Path(__file__).resolve().parent.parent


# ---- the cases of the bar


def test_forty_exchange_rates_over_7000_days_with_holes(tmp_path):
    table = rates()
    table.to_csv(tmp_path / "fx.csv", index=False)
    report = import_file(
        tmp_path / "fx.csv", window=64, stride=16, gaps="interpolate", max_gap=3, out=tmp_path / "fx"
    )
    data = load_dataset(tmp_path / "fx")
    assert data.x.shape == (report.windows, 64, 40) == ((7000 - 64) // 16 + 1, 64, 40)
    assert data.channels == tuple(table.columns[1:])
    assert report.gaps == {name: int(table[name].isna().sum()) for name in data.channels}
    assert report.filled == sum(report.gaps.values())
    assert any("business days" in note for note in report.notes), "weekends must be said, not hidden"
    known = table.iloc[16:80, 1:].to_numpy()
    seen = ~np.isnan(known)
    np.testing.assert_allclose(data.x[1][seen], known[seen], rtol=1e-6)


def test_holes_that_leave_no_window_are_refused_with_the_way_out(tmp_path):
    table = rates(500, holes=0.01)
    table.to_csv(tmp_path / "fx.csv", index=False)
    gaps = table.iloc[:, 1:].isna().to_numpy()
    row = int(np.argmax(gaps.any(1)))
    message = refused(tmp_path / "fx.csv", tmp_path)
    assert f"row {row + 2}, column '{table.columns[1 + int(np.argmax(gaps[row]))]}'" in message
    assert "interpolate short gaps" in message


@pytest.mark.parametrize("channels", [None, ["FX4", "FX5"]])
def test_text_in_a_number_column_is_named_by_row_and_column(tmp_path, channels):
    table = rates(600, 6).astype(object)
    table.iloc[510, 5] = "abc"
    table.to_csv(tmp_path / "text.csv", index=False)
    message = refused(tmp_path / "text.csv", tmp_path, channels=channels)
    assert "row 512, column 'FX4'" in message and "'abc'" in message


def test_the_row_of_a_fault_counts_lines_of_the_file(tmp_path):
    lines = ["# made by hand", "", "a;b", *["1,5;2,5"] * 40, "", "1,5;x", "1,5;2,5"]
    (tmp_path / "odd.csv").write_text("\n".join(lines))
    assert lines[44] == "1,5;x"
    assert "row 45, column 'b'" in refused(tmp_path / "odd.csv", tmp_path, window=8)


def test_three_rows_are_too_few(tmp_path):
    rates(3).to_csv(tmp_path / "three.csv", index=False)
    message = refused(tmp_path / "three.csv", tmp_path)
    assert "3 rows" in message and "'FX0'" in message and "shorter window" in message


def test_nothing_but_gaps_is_refused(tmp_path):
    table = rates(100, 3)
    table.iloc[:, 1:] = np.nan
    table.to_csv(tmp_path / "nan.csv", index=False)
    assert "rows 2 to 101" in refused(tmp_path / "nan.csv", tmp_path)
    table["FX1"] = 1.0
    table.to_csv(tmp_path / "nan.csv", index=False)
    assert "column 'FX2'" in refused(tmp_path / "nan.csv", tmp_path, channels=["FX1", "FX2"])


MEASURE = """
import resource, sys
from e2crf_core.data.importing import import_file
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
import_file(sys.argv[1], window=50, channels=["c0"], out=sys.argv[3])
before = peak()
import_file(sys.argv[2], window=50, channels=["c0"], out=sys.argv[4])
print(peak() - before)
"""


def test_memory_does_not_grow_with_columns_that_are_not_wanted(tmp_path):
    line = ",".join(f"{i}.25" for i in range(100)) + "\n"
    header = ",".join(f"c{i}" for i in range(100)) + "\n"
    for name, rows in (("small", 2_000), ("large", 120_000)):
        (tmp_path / f"{name}.csv").write_text(header + line * rows)
    size = (tmp_path / "large.csv").stat().st_size
    files = [str(tmp_path / name) for name in ("small.csv", "large.csv", "a", "b")]
    grown = subprocess.run(
        [sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert size > 60e6
    assert int(grown.stdout) < size / 2
    assert load_dataset(tmp_path / "b").x.shape == (120_000 // 50, 50, 1)


def test_more_windows_than_fit_in_memory_are_refused_with_a_stride(tmp_path):
    np.save(tmp_path / "long.npy", np.zeros((200_000, 4), np.float32))
    message = refused(tmp_path / "long.npy", tmp_path, window=2000, stride=1)
    stride = int(message.split("raise it to ")[1].split()[0])
    assert 200_000 / stride * 2000 * 4 * 4 < 600e6


# ---- formats


@pytest.mark.parametrize(
    ("delimiter", "decimal", "encoding"),
    [
        (",", ".", "utf-8"),
        (";", ",", "latin-1"),
        ("\t", ",", "utf-8-sig"),
        ("|", ".", "utf-16"),
        (";", ".", "utf-8"),
    ],
)
def test_dialects_are_found(tmp_path, delimiter, decimal, encoding):
    table = rates(300, 3, holes=0).rename(columns={"FX0": "größe"})
    path = tmp_path / "d.csv"
    path.write_bytes(table.to_csv(index=False, sep=delimiter, decimal=decimal).encode(encoding))
    found = sniff(path)
    assert (found.delimiter, found.names) == (delimiter, tuple(table.columns))
    assert survey_file(path).decimal == decimal
    import_file(path, window=50, out=tmp_path / "d")
    np.testing.assert_allclose(load_dataset(tmp_path / "d").x.reshape(-1, 3), table.iloc[:, 1:], rtol=1e-6)


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_a_line_that_begins_with_a_time_stamp_is_not_taken_for_one_cell(tmp_path, delimiter):
    rows = [["when", "a", "note"]] + [[f"2024-01-01 {i:02d}:00", str(i), "fine"] for i in range(20)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(delimiter.join(row) for row in rows))
    found = survey_file(path)
    assert found.delimiter == delimiter and found.time == "when"
    assert [c.kind for c in found.columns] == ["time", "number", "text"]


def test_a_file_without_header_loses_no_row(tmp_path):
    values = np.arange(128.0).reshape(64, 2)
    np.savetxt(tmp_path / "bare.csv", values, delimiter=",")
    import_file(tmp_path / "bare.csv", window=8, out=tmp_path / "bare")
    data = load_dataset(tmp_path / "bare")
    assert data.channels == ("c1", "c2")
    np.testing.assert_array_equal(data.x.reshape(-1, 2), values)


def test_thousands_marks_are_not_read_as_decimals(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n" + "1,5;2,5\n" * 30 + "1.234;2,5\n")
    assert "row 32, column 'a': '1.234'" in refused(tmp_path / "t.csv", tmp_path, window=8)


@pytest.mark.parametrize("form", ["csv", "parquet", "npz", "npy"])
def test_every_format_gives_the_same_windows(tmp_path, form):
    table = rates(320, 3, holes=0).drop(columns="date")
    path = tmp_path / f"t.{form}"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "parquet":
        table.to_parquet(path)
    elif form == "npz":
        np.savez(path, **{name: table[name].to_numpy() for name in table})
    else:
        np.save(path, table.to_numpy())
    report = import_file(path, window=32, stride=16, out=tmp_path / "o")
    data = load_dataset(tmp_path / "o")
    expected = np.stack([table.to_numpy()[i : i + 32] for i in range(0, 320 - 31, 16)])
    np.testing.assert_allclose(data.x, expected, rtol=1e-6)
    assert report.windows == len(expected)


def test_ready_windows_keep_their_shape_and_lose_those_with_gaps(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 32, 2))
    x[7, 3, 1] = np.nan
    np.save(tmp_path / "w.npy", x)
    report = import_file(tmp_path / "w.npy", window=32, out=tmp_path / "w")
    np.testing.assert_allclose(load_dataset(tmp_path / "w").x, np.delete(x, 7, axis=0), rtol=1e-6)
    assert report.dropped == 1
    assert "set it to 32" in refused(tmp_path / "w.npy", tmp_path, window=16)


# ---- groups, time, gaps


def test_windows_never_span_groups_even_when_their_rows_are_mixed(tmp_path):
    table = pd.DataFrame({"id": ["b", "a"] * 100, "v": [1000.0, 0.0] * 100})
    table["v"] += np.repeat(np.arange(100), 2)
    table.to_csv(tmp_path / "g.csv", index=False)
    import_file(tmp_path / "g.csv", window=16, stride=8, group="id", out=tmp_path / "g")
    data = load_dataset(tmp_path / "g")
    for name, base in (("a", 0), ("b", 1000)):
        x = data.x[data.group == name][..., 0]
        assert len(x) == (100 - 16) // 8 + 1
        np.testing.assert_array_equal(np.diff(x, axis=1), 1)
        assert ((x >= base) & (x < base + 100)).all()


def test_heldout_windows_of_an_import_overlap_no_training_window(tmp_path):
    table = rates(1500, 2, holes=0)
    table.to_csv(tmp_path / "fx.csv", index=False)
    import_file(tmp_path / "fx.csv", window=40, stride=5, out=tmp_path / "fx")
    data = load_dataset(tmp_path / "fx")
    day = data.start.astype("datetime64[D]").astype(int)
    distance = np.abs(day[data.heldout, None] - day[data.train])
    assert len(data.heldout) > 20 and distance.min() >= 40 / 5 * 7 - 2
    assert data.card["standardization"]["mean"] == pytest.approx(data.mean.tolist(), rel=1e-5)


def test_rows_out_of_order_are_sorted_by_time(tmp_path):
    table = rates(400, 2, holes=0)
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "mixed.csv", index=False)
    import_file(tmp_path / "mixed.csv", window=40, out=tmp_path / "m")
    np.testing.assert_allclose(load_dataset(tmp_path / "m").x.reshape(-1, 2), table.iloc[:, 1:], rtol=1e-6)


def test_equal_time_stamps_ask_for_a_group(tmp_path):
    table = pd.concat([rates(100, 2, holes=0)] * 2)
    table.to_csv(tmp_path / "twice.csv", index=False)
    assert "more than once" in refused(tmp_path / "twice.csv", tmp_path, window=16)


def test_uneven_stamps_are_resampled_by_means_on_an_even_grid(tmp_path):
    stamps = pd.date_range("2024-01-01", periods=600, freq="60s")
    jitter = np.random.default_rng(0).integers(0, 29, 600)
    value = np.arange(600.0)
    table = pd.DataFrame({"time": stamps + pd.to_timedelta(jitter, unit="s"), "v": value})
    table.to_csv(tmp_path / "u.csv", index=False)
    assert survey_file(tmp_path / "u.csv").uneven > 0.5
    import_file(tmp_path / "u.csv", window=10, resample="5min", out=tmp_path / "u")
    data = load_dataset(tmp_path / "u")
    np.testing.assert_allclose(data.x.ravel(), value.reshape(-1, 5).mean(1))
    assert data.start[0] == "2024-01-01T00:00:00" and data.start[1] == "2024-01-01T00:50:00"


def test_no_window_runs_over_an_outage(tmp_path):
    stamps = pd.date_range("2024-01-01", periods=200, freq="h").to_series()
    stamps.iloc[100:] += pd.Timedelta("3D")
    pd.DataFrame({"time": stamps, "v": np.arange(200.0)}).to_csv(tmp_path / "o.csv", index=False)
    report = import_file(tmp_path / "o.csv", window=16, stride=8, out=tmp_path / "o")
    x = load_dataset(tmp_path / "o").x[..., 0]
    assert report.dropped > 0
    assert not ((x[:, 0] < 100) & (x[:, -1] >= 100)).any()


@pytest.mark.parametrize("absent", [1, 3])
def test_no_window_of_hourly_rows_runs_over_missing_hours(tmp_path, absent):
    hours = np.delete(np.arange(240), range(100, 100 + absent))
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, unit="h")
    pd.DataFrame({"time": stamps, "v": hours / 2}).to_csv(tmp_path / "h.csv", index=False)
    report = import_file(tmp_path / "h.csv", window=12, out=tmp_path / "h")
    x = 2 * load_dataset(tmp_path / "h").x[..., 0]
    assert report.dropped == 1 and (np.diff(x, axis=1) == 1).all()
    filled = import_file(
        tmp_path / "h.csv", window=12, out=tmp_path / "f", resample="auto", gaps="interpolate"
    )
    assert filled.dropped == 0 and filled.filled == absent
    np.testing.assert_allclose(load_dataset(tmp_path / "f").x.ravel(), np.arange(240) / 2)


def test_no_window_of_months_runs_over_a_missing_month(tmp_path):
    months = pd.date_range("2000-01-01", periods=120, freq="MS").delete(60)
    table = pd.DataFrame({"month": months.strftime("%Y-%m"), "v": (months.year - 2000) * 12 + months.month})
    table.to_csv(tmp_path / "m.csv", index=False)
    report = import_file(tmp_path / "m.csv", window=9, out=tmp_path / "m")
    assert report.dropped == 1 and (np.diff(load_dataset(tmp_path / "m").x[..., 0], axis=1) == 1).all()


def test_steps_of_any_length_are_no_holes(tmp_path):
    steps = np.random.default_rng(0).uniform(20, 80, 200)
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(steps.cumsum().round(1), unit="s")
    pd.DataFrame({"time": stamps, "v": np.arange(200.0)}).to_csv(tmp_path / "e.csv", index=False)
    assert import_file(tmp_path / "e.csv", window=10, out=tmp_path / "e").dropped == 0


@pytest.mark.parametrize(("closed", "extra"), [((5, 6), 0), ((4, 5), 0), ((6,), 0), ((5, 6), 1)])
def test_closed_weekdays_are_no_holes(tmp_path, closed, extra):
    """Sunday to Thursday, six days a week, or a single opened Saturday: weekends pass like any night."""
    days = pd.date_range("2024-01-01", periods=420)
    opened = ~days.day_of_week.isin(closed)
    opened[[5, 6]] |= bool(extra)
    table = pd.DataFrame({"date": days[opened].strftime("%Y-%m-%d"), "v": np.arange(opened.sum()) % 7 + 0.5})
    table.to_csv(tmp_path / "w.csv", index=False)
    assert import_file(tmp_path / "w.csv", window=15, out=tmp_path / "w").dropped == 0


def test_gaps_are_filled_up_to_the_limit_and_not_beyond():
    x = np.arange(12.0, dtype=np.float32)[:, None].repeat(2, axis=1)
    holed = x.copy()
    holed[0, 0] = holed[3:5, 0] = holed[7:10, 0] = holed[11, 1] = np.nan
    filled, count = fill_gaps(holed, 2)
    assert count == 2
    np.testing.assert_array_equal(filled[3:5], x[3:5])
    assert np.isnan(filled[[0, 7, 8, 9], 0]).all() and np.isnan(filled[11, 1])
    assert fill_gaps(holed, 3)[1] == 5


def test_windows_over_gaps_are_dropped_and_the_others_kept():
    values = np.arange(100.0)[:, None]
    values[50] = np.nan
    windows = cut_windows(Table(values, np.zeros(100, np.int32), ("all",), None), Cutting(10, 10))
    assert windows.dropped == 1 and windows.start.tolist() == [0, 10, 20, 30, 40, 60, 70, 80, 90]
    assert np.isfinite(windows.x).all()


def test_an_empty_bin_is_a_gap_and_not_a_number():
    stamps = np.array([0, 1, 5, 6], dtype=np.int64) * 1_000_000
    table = resampled(Table(np.ones((4, 1)), np.zeros(4, np.int32), ("all",), stamps), 2.0)
    np.testing.assert_array_equal(np.isnan(table.values[:, 0]), [False, True, False, False])


@pytest.mark.parametrize(("text", "seconds"), [("10min", 600), ("1d", 86400), ("2.5", 2.5), ("auto", 7)])
def test_steps_are_understood(text, seconds):
    assert parse_step(text, 7.0) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "0", "nan", "inf"])
def test_steps_that_are_none_are_refused(text):
    with pytest.raises(LabError, match="10min"):
        parse_step(text, 1.0)


# ---- preview


def test_preview_says_what_is_there(tmp_path):
    table = rates(500, 3, holes=0.01).astype(object)
    table["note"] = "fine"
    table.iloc[250, 2] = "oops"
    table.to_csv(tmp_path / "p.csv", index=False, sep=";")
    seen = survey_file(tmp_path / "p.csv")
    assert (seen.delimiter, seen.n_rows, seen.first_row, seen.time, seen.step) == (";", 500, 2, "date", 86400)
    kinds = {column.name: column.kind for column in seen.columns}
    assert kinds == {"date": "time", "FX0": "number", "FX1": "number", "FX2": "number", "note": "text"}
    faulty = next(column for column in seen.columns if column.name == "FX1")
    assert (faulty.texts, faulty.first_text) == (1, 252)
    assert seen.columns[1].gaps == int(table["FX0"].isna().sum())
    assert seen.rows[0][0] == "1995-01-02" and len(seen.rows) == 8
