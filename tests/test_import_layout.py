"""Layout of tables, arrays and gaps: text around a table is reported, and open questions are asked."""

import numpy as np
import pandas as pd
import pytest

from e2crf_core.data.survey import survey_file
from tests.import_files import CASES, imported, noted, question, rows, written

HOURS = pd.date_range("2023-03-01", periods=60, freq="h")

# ---- layout of the file


@pytest.mark.parametrize(
    ("file", "words"),
    [("17c_preamble.csv", ("above the table", "Station report")), ("17d_units_row.csv", ("units", "degC")),
     ("17e_yfinance_like.csv", ("header row", "Ticker"))],
)  # fmt: skip
def test_lines_above_the_table_are_left_out_and_said(tmp_path, file, words):
    data, report = imported(CASES / file, tmp_path)
    assert noted(report, *words) and len(data.x) == 12 and len(data.channels) == 2
    assert data.x[0, 0, 0] == pytest.approx({"c": 10.019, "d": 10.053, "e": 10.045}[file[2]])


def test_a_preamble_as_wide_as_the_table_is_left_out(tmp_path):
    path = written(tmp_path, "Logger,X1\nSerial,1234\n" + rows(HOURS))
    data, report = imported(path, tmp_path, window=12)
    assert data.channels == ("v",) and noted(report, "above the table", "Serial") and len(data.x) == 5


def test_decimal_commas_are_not_taken_for_delimiters(tmp_path):
    path = written(tmp_path, "".join(f"{i % 5},25 {i % 3},5\n" for i in range(60)), "t.txt")
    data, _ = imported(path, tmp_path, window=12)
    assert data.x[0, :2].tolist() == [[0.25, 0.5], [1.25, 1.5]]


def test_units_get_into_the_card(tmp_path):
    assert imported(CASES / "17d_units_row.csv", tmp_path)[0].units == ("degC", "%")


def test_lines_to_skip_may_be_said(tmp_path):
    data, report = imported(CASES / "17c_preamble.csv", tmp_path, skip=3)
    assert data.channels == ("temp", "hum") and not noted(report, "above the table")


def test_white_space_and_sep_lines(tmp_path):
    data, report = imported(CASES / "17g_whitespace.txt", tmp_path)
    assert noted(report, "white space") and data.x[0, 0].tolist() == [np.float32(10.015), np.float32(12.743)]
    data, _ = imported(CASES / "17h_sep_line.csv", tmp_path / "b")
    assert data.channels == ("a",) and data.x[0, 0, 0] == np.float32(9.962)


@pytest.mark.parametrize(
    "footer", ["Total,150.5\n", "Source: my meter\n", ",\n,\n,\n", "\n\nexported by hand, today, twice\n"]
)
def test_lines_below_the_table_are_left_out(tmp_path, footer):
    path = written(tmp_path, rows(HOURS) + footer)
    data, report = imported(path, tmp_path, window=12)
    assert len(data.x) == 5 and data.x.max() == 6.5 and report.dropped == 0


def test_a_header_may_lack_the_name_of_the_first_column(tmp_path):
    path = written(tmp_path, "a b\n" + "".join(f"r{i} {i}.5 {i % 3}.25\n" for i in range(40)), "r.txt")
    data, _ = imported(path, tmp_path, window=8)
    assert data.channels == ("a", "b") and data.x[0, 1].tolist() == [1.5, 1.25]


# ---- arrays


def test_a_series_in_each_row_is_asked_about(tmp_path):
    path = CASES / "13_row_per_series.csv"
    assert question(path, tmp_path, 16).field == "axes"
    data, _ = imported(path, tmp_path, 61, axes="SN")
    table = np.loadtxt(path, delimiter=",")[: len(data.x)]
    assert data.x.shape[1:] == (61, 1) and len(data.x) in (80, 81)
    np.testing.assert_allclose(data.x[..., 0], table, rtol=1e-6)


def test_channels_before_steps_are_asked_about(tmp_path):
    x = np.sin(np.arange(100) / 5 + np.arange(3)[:, None] + np.arange(30)[:, None, None])
    np.save(tmp_path / "x.npy", x)
    for window in (24, 100):
        asked = question(tmp_path / "x.npy", tmp_path, window)
        assert asked.field == "axes" and "(30, 3, 100)" in str(asked)
    data, _ = imported(tmp_path / "x.npy", tmp_path, 100, axes="SMN")
    np.testing.assert_allclose(data.x, x.transpose(0, 2, 1), rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 5])
def test_overlapping_windows_are_never_split(tmp_path, stride):
    series = np.random.default_rng(0).normal(size=600).cumsum()
    windows = np.lib.stride_tricks.sliding_window_view(series, 24)[::stride, :, None]
    order = np.random.default_rng(1).permutation(len(windows))
    np.save(tmp_path / "w.npy", windows[order])
    data, report = imported(tmp_path / "w.npy", tmp_path)
    assert noted(report, "overlap") and len(data.heldout) >= 8
    assert not np.intersect1d(data.x[data.heldout], data.x[data.train]).size
    np.testing.assert_array_equal(data.start, order * stride)


def test_windows_that_stand_alone_stay_as_they_are(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 24, 1))
    x[:, 18:] = 0
    np.save(tmp_path / "w.npy", x)
    data, report = imported(tmp_path / "w.npy", tmp_path)
    assert not noted(report, "put back") and len(data.x) == 60


@pytest.mark.parametrize("kind", [">f4", ">f8", "longdouble", ">i2", "f2"])
def test_every_real_type_is_read(tmp_path, kind):
    values = np.round(np.sin(np.arange(300) / 3) * 50)[:, None]
    np.save(tmp_path / "x.npy", values.astype(kind))
    data, _ = imported(tmp_path / "x.npy", tmp_path)
    np.testing.assert_array_equal(data.x.ravel(), values[:288, 0])


def test_big_endian_and_complex_files(tmp_path):
    data, _ = imported(CASES / "16_big_endian.npy", tmp_path)
    assert data.x[0, 0].tolist() == [np.float32(9.92), np.float32(12.563)]
    assert "complex" in str(question(CASES / "16i_X_complex.npz", tmp_path / "b"))


def test_ts_files_of_aeon(tmp_path):
    lines = ["@problemName demo", "@timestamps false", "@classLabel true a b", "@data"]
    lines += [
        f"{','.join(str(i + k) for k in range(8))}:{','.join('1' * 8)}:{'ab'[i % 2]}" for i in range(12)
    ]
    data, _ = imported(written(tmp_path, "\n".join(lines), "demo.ts"), tmp_path, window=8)
    assert data.x.shape == (12, 8, 2) and data.x[3, :, 0].tolist() == list(range(3, 11))


# ---- gaps


def test_a_gap_is_not_filled_towards_a_value_beyond_an_outage(tmp_path):
    data, report = imported(CASES / "20_gap_before_jump.csv", tmp_path, window=20, gaps="interpolate")
    assert set(np.unique(data.x)) == {0.0, 1000.0} and report.filled == 0 and report.dropped == 1


def test_gaps_are_filled_in_proportion_to_time(tmp_path):
    time = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13]
    cells = ["" if t == 3 else str(float(t)) for t in time]
    data, report = imported(written(tmp_path, rows(time, cells)), tmp_path, window=4, gaps="interpolate")
    assert report.filled == 1 and data.x[0, :, 0].tolist() == [0, 1, 2, 3]


def test_choices_of_gap_handling_are_counted_before_anything_is_written(tmp_path):
    cells = ["" if i % 15 == 7 else str(i % 9) for i in range(300)]
    path = written(tmp_path, rows(pd.date_range("2024-01-01", periods=300, freq="h"), cells, header="when,v"))
    survey = survey_file(path, window=20)
    assert list(tmp_path.iterdir()) == [path]
    left = {choice.cutting.gaps: choice.windows for choice in survey.choices}
    assert left["interpolate"] == 15 and left["drop"] == 0
    assert survey.recommended.cutting.gaps == "interpolate" and survey.questions == ()
    data, report = imported(path, tmp_path, 20, gaps="interpolate")
    assert len(data.x) == 15 and report.choices == survey.choices


def test_long_holidays_may_be_ignored(tmp_path):
    days = pd.bdate_range("2020-01-01", periods=80)
    days = days[(days < "2020-02-03") | (days > "2020-02-14")]
    path = written(tmp_path, rows(days.strftime("%Y-%m-%d"), header="date,v"))
    _, report = imported(path, tmp_path, 10)
    _, whole = imported(path, tmp_path / "b", 10, ignore_calendar=True)
    assert report.dropped == 1 and whole.dropped == 0


def test_decisions_are_in_the_card_and_a_guess_is_called_one(tmp_path):
    data, report = imported(CASES / "08e_german_full.csv", tmp_path)
    stored = {d["column"]: d for d in data.card["decisions"] if d["role"] != "file"}
    assert "decimal comma" in stored["Wind [MWh]"]["reading"] and stored["Wind [MWh]"]["certain"]
    assert stored["Datum von"]["role"] == "time" and not stored["Datum von"]["certain"]
    assert stored["Datum bis"]["role"] == "left out"
    assert len(report.decisions) == len(data.card["decisions"])


def test_time_stamps_that_no_format_reads_are_asked_about(tmp_path):
    stamps = [f"{t:%d.%m.%Y %H:%M}" for t in pd.date_range("2024-01-01", periods=96, freq="h")]
    path = written(tmp_path, rows([*stamps[:30], "Subtotal", *stamps[31:]], header="Zeit,v"))
    asked = question(path, tmp_path)
    assert (asked.field, asked.column) == ("time", "Zeit")
    assert imported(path, tmp_path, time="none")[0].x.shape == (4, 24, 1)
