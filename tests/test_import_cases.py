"""Everyday files are read correctly, or rejected with the question that the user has to answer."""

import numpy as np
import pandas as pd
import pytest

from tests.import_files import CASES, imported, noted, question, rows, written

# ---- time


def test_month_first_is_found_from_the_whole_column(tmp_path):
    data, report = imported(CASES / "01_us_monthly.csv", tmp_path, window=8, stride=4)
    assert data.card["sampling"]["text"] == "1 month" and report.dropped == 0
    assert data.start[:2].tolist() == ["1990-01-01T00:00:00", "1990-05-01T00:00:00"]
    assert noted(report, "month/day", "guess")
    np.testing.assert_allclose(data.x[0, :3, 0], [10.0, 10.806, 11.473])


def test_month_first_minutes_do_not_jump_at_midnight(tmp_path):
    stamps = pd.date_range("2023-01-02", periods=14_400, freq="min").strftime("%m/%d/%Y %H:%M")
    path = written(tmp_path, rows(stamps))
    data, report = imported(path, tmp_path)
    assert data.start[-1] == "2023-01-11T23:36:00" and report.dropped == 0
    assert noted(report, "month/day", "guess")
    other, _ = imported(path, tmp_path / "b", date_order="dmy")
    assert other.start[0] == "2023-02-01T00:00:00"


def test_one_day_beyond_twelve_settles_the_order(tmp_path):
    stamps = pd.date_range("2023-01-02", periods=20, freq="D").strftime("%d/%m/%Y")
    data, report = imported(written(tmp_path, rows(stamps)), tmp_path, window=5)
    assert data.start[0] == "2023-01-02T00:00:00" and not noted(report, "guess")


def test_an_order_that_nothing_tells_is_asked(tmp_path):
    stamps = ["01/01/2023", "02/02/2023", "03/03/2023", "04/04/2023", "05/05/2023", "06/06/2023"] * 1
    path = written(tmp_path, rows(stamps))
    assert question(path, tmp_path, window=4).field == "date_order"
    assert len(imported(path, tmp_path, window=4, stride=1, date_order="mdy")[0].x) == 3


@pytest.mark.parametrize(("file", "window"), [("03_epoch_ms.csv", 24), ("04_epoch_s_newest_first.csv", 24)])
def test_epochs_are_told_by_their_size_and_sorted(tmp_path, file, window):
    data, _ = imported(CASES / file, tmp_path, window)
    assert data.card["sampling"] == {"text": "1min", "seconds": 60.0}
    assert data.start[:2].tolist() == ["2023-01-01T00:00:00", "2023-01-01T00:24:00"]
    np.testing.assert_allclose(data.x[0, :3, 0], [9.947, 10.725, 11.469])


START = pd.Timestamp("2023-03-01 00:00")
HOURS = pd.date_range(START, periods=60, freq="h")
DAYS = pd.date_range(START, periods=60, freq="D")


@pytest.mark.parametrize(
    ("name", "stamps", "step"),
    [
        ("timestamp", (HOURS.astype("datetime64[ns]").astype("int64") // 10**9).tolist(), 3600),
        ("timestamp", (HOURS.astype("datetime64[ns]").astype("int64") // 10**3).tolist(), 3600),
        ("ts", HOURS.astype("datetime64[ns]").astype("int64").tolist(), 3600),
        ("date", DAYS.strftime("%Y%m%d").tolist(), 86400),
        ("Date", [45_000 + (START - pd.Timestamp("2023-03-15")).days + i for i in range(60)], 86400),
        ("date", [44_986 + i / 24 for i in range(60)], 3600),
        ("when", HOURS.strftime("%m/%d/%Y %I:%M %p").tolist(), 3600),
        ("when", HOURS.strftime("%Y-%m-%d %H:%M:%S+00:00").tolist(), 3600),
        ("when", HOURS.strftime("%Y-%m-%dT%H:%M:%SZ").tolist(), 3600),
        ("day", DAYS.strftime("%d.%m.%y").tolist(), 86400),
        ("day", DAYS.strftime("%d-%b-%Y").tolist(), 86400),
        ("day", DAYS.strftime("%b %d %Y").tolist(), 86400),
        ("day", DAYS.strftime("%d %B %Y").tolist(), 86400),
        ("day", DAYS.strftime("%Y/%m/%d").tolist(), 86400),
        ("when", HOURS.strftime("%d.%m.%Y %H:%M:%S").tolist(), 3600),
    ],
)
def test_time_stamps_in_all_notations_are_the_same_moments(tmp_path, name, stamps, step):
    data, _ = imported(written(tmp_path, rows(stamps, header=f"{name};v", form="{};{}")), tmp_path, window=6)
    assert data.start[0] == "2023-03-01T00:00:00"
    assert data.card["sampling"]["seconds"] == pytest.approx(step, rel=1e-6)
    assert data.channels == ("v",) and len(data.x) == 10


@pytest.mark.parametrize(
    ("stamps", "text"),
    [
        (pd.date_range("2010-01-01", periods=40, freq="MS").strftime("%Y%m"), "1 month"),
        (pd.date_range("2010-01-01", periods=40, freq="MS").strftime("%b-%Y"), "1 month"),
        (pd.date_range("2010-01-01", periods=40, freq="MS").strftime("%Y-%m"), "1 month"),
        ([f"{2000 + i // 4}Q{i % 4 + 1}" for i in range(40)], "3 months"),
        (pd.date_range("1980-12-31", periods=40, freq="YE").strftime("%Y-%m-%d"), "1 year"),
        (pd.bdate_range("2020-01-01", periods=40).strftime("%Y-%m-%d"), "business day"),
    ],
)
def test_steps_of_the_calendar_are_even(tmp_path, stamps, text):
    data, report = imported(written(tmp_path, rows(stamps, header="date,v")), tmp_path, window=8)
    assert data.card["sampling"]["text"] == text and report.dropped == 0 and len(data.x) == 5


def test_yyyymmdd_windows_pass_the_end_of_a_month(tmp_path):
    data, report = imported(CASES / "05_yyyymmdd.csv", tmp_path, window=12)
    assert report.dropped == 0 and data.card["sampling"]["text"] == "1d"
    assert data.start[:2].tolist() == ["2021-01-01T00:00:00", "2021-01-13T00:00:00"]


def test_date_and_time_in_two_columns_are_one_clock(tmp_path):
    moments = pd.date_range("2006-12-16 17:24", periods=3000, freq="min")
    lines = [f"{m:%d/%m/%Y};{m:%H:%M:%S};{i % 9 + 0.25}" for i, m in enumerate(moments)]
    data, report = imported(written(tmp_path, "Date;Time;P\n" + "\n".join(lines), "h.txt"), tmp_path)
    assert data.start[:2].tolist() == ["2006-12-16T17:24:00", "2006-12-16T17:48:00"]
    assert data.channels == ("P",) and report.dropped == 0 and data.card["time"] == "Date + Time"


def test_two_time_columns_are_asked_about_and_either_may_be_named(tmp_path):
    path = CASES / "24j_two_times_updated_first.csv"
    asked = question(path, tmp_path)
    assert asked.field == "time" and "'updated', 'date'" in str(asked)
    data, _ = imported(path, tmp_path, time="date")
    np.testing.assert_array_equal(data.x.ravel(), np.arange(192))


def test_local_time_needs_its_zone_where_autumn_repeats_an_hour(tmp_path):
    utc = pd.date_range("2023-10-28", periods=72, freq="h", tz="UTC")
    local = utc.tz_convert("Europe/Berlin").strftime("%Y-%m-%d %H:%M")
    path = written(tmp_path, rows(local))
    assert question(path, tmp_path, window=12).field == "tz"
    data, report = imported(path, tmp_path, window=12, tz="Europe/Berlin")
    assert data.start.tolist() == utc[::12].strftime("%Y-%m-%dT%H:%M:%S").tolist() and report.dropped == 0
    assert question(path, tmp_path / "b", window=12, tz="Europe/Bonn").field == "tz"


def test_elapsed_hours_and_milliseconds_have_their_unit(tmp_path):
    for name, step in (("hour", 3600), ("time_ms", 0.001), ("Time [min]", 60)):
        data, _ = imported(
            written(tmp_path, rows(range(40), header=f"{name},v")), tmp_path / name[:4], window=8
        )
        assert data.card["sampling"]["seconds"] == pytest.approx(step)


# ---- columns


def test_row_counters_and_parts_of_a_date_are_no_channels(tmp_path):
    data, report = imported(CASES / "06_pandas_index.csv", tmp_path)
    assert data.channels == ("temp", "hum") and noted(report, "counts the rows")
    lines = [f"{i},{m},{m.month},{m.hour},{i % 5 + 0.5}" for i, m in enumerate(HOURS)]
    path = written(tmp_path, "id,when,month,hour,v\n" + "\n".join(lines))
    data, report = imported(path, tmp_path / "b", window=12)
    assert data.channels == ("v",) and noted(report, "month", "part of the date")
    kept, _ = imported(path, tmp_path / "c", window=12, channels=["v", "hour"])
    assert kept.channels == ("v", "hour") and kept.x[0, 5, 1] == 5


PARTS = pd.date_range("2023-02-27 22:00", periods=60, freq="h")


@pytest.mark.parametrize(
    ("header", "form", "moments", "first", "seconds"),
    [
        ("year,month,day,hour,v", "{m.year},{m.month},{m.day},{m.hour}", PARTS, PARTS[0], 3600),
        ("v0,Jahr,Monat,Tag,v", "{i}.5,{m.year},{m.month},{m.day}", DAYS, DAYS[0], 86400),
        ("Year,DOY,v", "{m.year},{m.day_of_year}", DAYS, DAYS[0], 86400),
        ("yyyy,mm,dd,time,v", "{m.year},{m.month},{m.day},{m:%H:%M}", PARTS, PARTS[0], 3600),
        (
            "#YY,MM,DD,hh,mm,v",
            "{m.year},{m.month:02d},{m.day:02d},{m.hour:02d},{m.minute:02d}",
            PARTS - pd.Timedelta("10min"),
            pd.Timestamp("2023-02-27 21:50"),
            3600,
        ),
        ("date,hour,v", "{m:%Y-%m-%d},{m.hour}", PARTS, PARTS[0], 3600),
        ("year,month,day,hhmm,v", "{m.year},{m.month},{m.day},{m.hour}00", PARTS, PARTS[0], 3600),
        ("stamp,v", "{m:%Y%m%dT%H%M%S}", PARTS, PARTS[0], 3600),
        ("stamp,v", "{m:%Y%m%d %H:%M}", PARTS, PARTS[0], 3600),
    ],
)
def test_a_date_in_parts_or_without_marks_is_one_clock(tmp_path, header, form, moments, first, seconds):
    lines = [f"{form.format(i=i, m=m)},{i % 5}.5" for i, m in enumerate(moments)]
    data, report = imported(written(tmp_path, header + "\n" + "\n".join(lines)), tmp_path, window=12)
    assert data.start[0] == f"{first:%Y-%m-%dT%H:%M:%S}" and data.card["sampling"]["seconds"] == seconds
    assert data.channels[-1] == "v" and len(data.channels) == 1 + header.startswith("v0")
    assert len(data.x) == 5 and report.dropped == 0
    assert "year" not in header.lower() or noted(report, "dates joined", "guess")


def test_names_in_a_comment_are_the_header(tmp_path):
    lines = "".join(f"{i} {i % 5}.5 {i % 7}\n" for i in range(60))
    path = written(tmp_path, f"# made by a logger\n# t temp hum\n# s degC %\n{lines}", "log.txt")
    data, report = imported(path, tmp_path, window=12)
    assert data.channels == ("temp", "hum") and data.units == ("degC", "%")
    assert noted(report, "comment above the table", "guess") and data.card["sampling"]["seconds"] == 1


def test_months_and_years_are_months(tmp_path):
    months = pd.date_range("2010-01-01", periods=40, freq="MS")
    lines = [f"{m.year},{m.month},{i % 5}.5" for i, m in enumerate(months)]
    data, _ = imported(written(tmp_path, "year,month,v\n" + "\n".join(lines)), tmp_path, window=8)
    assert data.card["sampling"]["text"] == "1 month" and data.start[1] == "2010-09-01T00:00:00"
    assert data.channels == ("v",)


def test_parts_that_leave_hours_out_or_name_no_day_are_seen(tmp_path):
    lines = [f"{m.year},{m.month},{m.day},{m.hour},{i % 5}.5" for i, m in enumerate(PARTS)]
    del lines[20:23]
    path = written(tmp_path, "year,month,day,hour,v\n" + "\n".join(lines))
    _, report = imported(path, tmp_path, window=12, resample="auto")
    assert report.dropped == 1
    path = written(tmp_path, "year,month,day,v\n" + "".join(f"2023,2,{d},1.5\n" for d in range(20, 31)))
    assert "2023-2-29" in str(question(path, tmp_path / "b", window=4))


def test_a_number_that_often_means_missing_is_pointed_out(tmp_path):
    values = ["-999" if i in (3, 30) else str(i % 5) for i in range(60)]
    path = written(tmp_path, rows(HOURS, values))
    assert noted(imported(path, tmp_path, 12)[1], "-999", "guess")
    data, report = imported(path, tmp_path / "b", 12, missing=["-999"])
    assert report.gaps == {"v": 2} and data.x.min() == 0


def test_a_lone_count_is_data(tmp_path):
    data, _ = imported(written(tmp_path, "n\n" + "\n".join(map(str, range(60)))), tmp_path, window=12)
    np.testing.assert_array_equal(data.x.ravel(), np.arange(60))


@pytest.mark.parametrize("values", [["1.5", "2.5"], ["1,5;2,5"]], ids=["comma", "semicolon"])
def test_years_as_header(tmp_path, values):
    body = values[0] if len(values) == 1 else ",".join(values)
    mark = ";" if ";" in body else ","
    path = written(tmp_path, f"2019{mark}2020\n" + f"{body}\n{body.replace('5', '7')}\n" * 30)
    data, report = imported(path, tmp_path, window=10)
    assert (
        data.channels == ("2019", "2020") and data.x[0, 0].tolist() == [1.5, 2.5] and noted(report, "guess")
    )


def test_a_numeric_header_is_a_header(tmp_path):
    data, _ = imported(CASES / "07_numeric_header.csv", tmp_path)
    assert data.channels == ("0", "1", "2") and data.x[0, 0, 0] == np.float32(9.678)
    bare, _ = imported(CASES / "07_numeric_header.csv", tmp_path / "b", header=0)
    assert bare.x[0, 0].tolist() == [0, 1, 2]


def test_columns_of_equal_names_are_numbered(tmp_path):
    data, report = imported(CASES / "21c_duplicate_names.parquet", tmp_path)
    assert data.channels == ("a", "a.2", "b") and noted(report, "equal names")
    assert data.x[0, :3, 0].tolist() == [0, 1, 2] and data.x[0, :3, 1].tolist() == [0, 100, 200]


def test_a_name_with_a_comma_is_found_in_either_writing(tmp_path):
    for place, channels in enumerate((["Temp, C"], ["Temp", "C"])):
        data, _ = imported(CASES / "17l_comma_in_name.csv", tmp_path / str(place), channels=channels)
        assert data.channels == ("Temp, C",) and data.x[0, 0, 0] == np.float32(10.055)


def test_several_series_under_one_another_ask_for_their_group(tmp_path):
    for place, (file, group, window) in enumerate(
        (("19_long.csv", "sensor", 24), ("19b_panel_text_id.csv", "symbol", 10))
    ):
        asked = question(CASES / file, tmp_path, window)
        assert asked.field == "group" and group in str(asked)
        data, report = imported(CASES / file, tmp_path / str(place), window, group=group)
        assert report.dropped == 0 and len(np.unique(data.group)) == 3
    assert np.abs(np.diff(data.x[..., 0], axis=1)).max() < 1


def test_a_numeric_identifier_is_found_too(tmp_path):
    lines = [f"{m},{s},{s * 10 + i % 5 + 0.5}" for i, m in enumerate(HOURS) for s in (1, 2)]
    path = written(tmp_path, "when,station,v\n" + "\n".join(lines))
    asked = question(path, tmp_path, 12)
    assert asked.field == "group" and "station" in str(asked)
    data, _ = imported(path, tmp_path, 12, group="station")
    assert len(data.x) == 10 and data.channels == ("v",)


@pytest.mark.parametrize("name", ["Time", "timestamp"])
def test_excel_days_with_times_of_day_are_no_stopwatch(tmp_path, name):
    path = written(tmp_path, rows([f"{45292 + i / 24:.6f}" for i in range(96)], header=f"{name},v"))
    data, report = imported(path, tmp_path)
    assert data.start[:2].tolist() == ["2024-01-01T00:00:00", "2024-01-02T00:00:00"]
    assert data.card["sampling"]["seconds"] == 3600 and noted(report, "Excel days")
    path = written(tmp_path, rows([f"{40000 + i / 50:.2f}" for i in range(96)], header=f"{name[:4]},v"))
    data, report = imported(path, tmp_path / "b")
    assert data.card["sampling"]["seconds"] == pytest.approx(0.02) and noted(
        report, "elapsed seconds", "guess"
    )


def test_times_of_day_without_a_colon_complete_the_date(tmp_path):
    stamps = pd.date_range("2024-01-01", periods=96, freq="30min")
    cells = [f"{t:%Y%m%d},{t:%H%M},{i}" for i, t in enumerate(stamps)]
    data, _ = imported(written(tmp_path, "DATE,TIME,v\n" + "\n".join(cells)), tmp_path)
    assert data.start[1] == "2024-01-01T12:00:00" and data.channels == ("v",)
    np.testing.assert_array_equal(data.x.ravel(), np.arange(96))


def test_a_quarter_may_stand_before_its_year(tmp_path):
    path = written(tmp_path, rows([f"Q{1 + i % 4} {1950 + i // 4}" for i in range(96)]))
    data, _ = imported(path, tmp_path)
    assert data.card["sampling"]["text"] == "3 months" and data.start[1] == "1956-01-01T00:00:00"


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M:%S"])
def test_24_00_ends_its_day(tmp_path, form):
    stamps = pd.date_range("2024-01-01 01:00", periods=96, freq="h")
    ends = [
        (t - pd.Timedelta("1D")).strftime(form.replace("%H", "24")) if t.hour == 0 else t.strftime(form)
        for t in stamps
    ]
    data, report = imported(written(tmp_path, rows(ends, header="Zeit,v")), tmp_path)
    assert data.start[:2].tolist() == ["2024-01-01T01:00:00", "2024-01-02T01:00:00"] and report.dropped == 0


# ---- numbers


def test_points_between_thousands_are_seen_beside_smaller_whole_numbers(tmp_path):
    cells = [f"{900 + 7 * i:,}".replace(",", ".") for i in range(60)]
    path = written(tmp_path, "a;b\n" + "".join(f"{cell};x\n" for cell in cells))
    data, report = imported(path, tmp_path, window=10)
    assert data.x.ravel().tolist() == [900 + 7 * i for i in range(60)] and noted(
        report, "'.' between", "guess"
    )
    path = written(tmp_path, "a;b\n" + "".join(f"1.{100 + i};x\n" for i in range(60)))
    data, report = imported(path, tmp_path / "b", window=10)
    assert data.x[0, 0, 0] == np.float32(1.1) and noted(report, "decimal point", "guess")


def test_a_high_mark_of_missing_values_is_pointed_out(tmp_path):
    cells = [999.9 if i == 50 else 20.5 + i % 3 for i in range(96)]
    path = written(tmp_path, rows(range(96), cells))
    assert noted(imported(path, tmp_path)[1], "highest value is 999.9", "guess")
    assert imported(path, tmp_path / "b", missing=["999.9"])[1].gaps == {"v": 1}


def test_a_counter_may_start_anywhere(tmp_path):
    path = written(tmp_path, "index,v\n" + "".join(f"{5000 + i},{i % 7}.5\n" for i in range(96)))
    data, report = imported(path, tmp_path)
    assert data.channels == ("v",) and noted(report, "'index'", "counts the rows")


def test_thousands_marks_of_all_kinds(tmp_path):
    data, report = imported(CASES / "08_tsv_thousands.tsv", tmp_path)
    assert data.x[0, :3, 0].tolist() == [1015, 1022, 1030] and data.x.min() > 900
    assert noted(report, "between thousands", "guess")
    data, _ = imported(CASES / "08e_german_full.csv", tmp_path / "b")
    series = data.x.ravel()
    assert series[0] == 900 and np.float32(1003.11) in series
    kinds = (["1 234,5", "999,5"], ["1\u202f234,5", "999,5"], ["1'234.5", "999.5"], ['"1,234.5"', "999.5"])
    for place, cells in enumerate(kinds):
        path = written(tmp_path, "a\tb\n" + f"{cells[0]}\t1\n{cells[1]}\t2\n" * 30)
        data, _ = imported(path, tmp_path / f"c{place}", window=10)
        assert data.x[0, :2, 0].tolist() == [1234.5, 999.5]


def test_a_mark_that_nothing_tells_is_asked(tmp_path):
    path = written(tmp_path, "a\tb\n" + "".join(f"1,{100 + i}\t{i % 4}.5\n" for i in range(60)))
    data, report = imported(path, tmp_path, window=10)
    assert noted(report, "guess") and data.x[0, 0, 0] == 1100, "b settles that a point is the decimal mark"
    path = written(tmp_path, "a\tb\n" + "".join(f"1,{100 + i}\t{i % 4}\n" for i in range(60)))
    assert question(path, tmp_path / "b", 10).field == "decimal"
    assert imported(path, tmp_path / "b", 10, decimal=",")[0].x[0, 0, 0] == np.float32(1.1)
    assert imported(path, tmp_path / "c", 10, decimal=".")[0].x[0, 0, 0] == 1100


def test_a_decimal_mark_is_found_after_rows_of_zeros(tmp_path):
    data, _ = imported(CASES / "24_pv_zeros_first.csv", tmp_path)
    assert data.x[1, 1, 0] == np.float32(0.29) and data.start[0] == "2023-06-01T00:00:00"


def test_text_among_numbers_is_listed_and_may_be_missing(tmp_path):
    cells = ["sensor off" if i in (20, 21) else "n.a." if i == 40 else f"{i % 6}.5" for i in range(90)]
    path = written(tmp_path, rows(range(90), cells))
    asked = question(path, tmp_path, 10)
    assert asked.field == "missing" and "'sensor off' (2 times)" in str(asked) and "'n.a.'" in str(asked)
    data, report = imported(path, tmp_path, 10, missing=["sensor off", "n.a."])
    assert report.gaps == {"v": 3} and np.isfinite(data.x).all()


def test_a_counter_keeps_its_detail(tmp_path):
    data, report = imported(CASES / "11_meter_reading.csv", tmp_path)
    table = pd.read_csv(CASES / "11_meter_reading.csv")
    exact = table["kWh_total"].to_numpy()[: data.x.size]
    offset = data.card["offsets"]["kWh_total"]
    np.testing.assert_allclose(data.x.ravel() + np.float64(offset), exact, atol=1e-4)
    assert noted(report, "subtracted")


@pytest.mark.parametrize("unit", [1e-15, 1e-12, 1e12])
def test_tiny_and_huge_units_are_not_constant(tmp_path, unit):
    x = np.sin(np.arange(3000) / 3)[:, None] * unit
    np.save(tmp_path / "x.npy", x)
    data, report = imported(tmp_path / "x.npy", tmp_path)
    assert not noted(report, "constant")
    np.testing.assert_allclose(data.standardize(data.x).std(), 1, rtol=0.05)
