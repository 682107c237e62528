"""Malicious files and nonsensical requests are rejected in one line, and nothing is written."""

import io
import json
import zipfile

import numpy as np
import pytest

from e2crf_core.data.datasets import load_dataset
from e2crf_core.data.importing import import_file
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npy, read_npz
from e2crf_core.io.sets import DIGESTS
from tests.rates import rates, refused


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "o.npz", a=np.array([{"a": 1}], dtype=object))
    for name in ("o.npy", "o.npz"):
        assert "objects" in refused(tmp_path / name, tmp_path)


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(30_000_000))
    with pytest.raises(LabError, match="30 MB"):
        read_npz(tmp_path / "bomb.npz", limit=10_000_000)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 8)}
    )
    (tmp_path / "liar.npy").write_bytes(stream.getvalue() + bytes(100))
    with pytest.raises(LabError, match="forged"):
        read_npy(tmp_path / "liar.npy")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n1,2,3\n4,5\n", "row 3 has 3 cells"),
        (b"\x00\x01\x02" * 50, "binary"),
        (b"a,b\nx,y\nz,w\n", "column 'a' holds text"),
        (b"a,b\n1,2\n3,inf\n", "row 3, column 'b': 'inf'"),
        (b"a,b\n1,2\n3,1e60\n", "row 3, column 'b': '1e60'"),
    ],
)
def test_broken_tables_are_refused_where_they_break(tmp_path, content, word):
    (tmp_path / "x.csv").write_bytes(content)
    assert word in refused(tmp_path / "x.csv", tmp_path, window=4)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"channels": ["FX9"]}, "'FX9'"),
        ({"channels": ["FX0", "FX0"]}, "twice"),
        ({"group": "nobody"}, "'nobody'"),
        ({"time": "FX0"}, "FX0"),
        ({"window": 1}, "window 1"),
        ({"stride": 0}, "stride 0"),
        ({"gaps": "ignore"}, "drop or interpolate"),
        ({"max_gap": 0}, "max_gap 0"),
        ({"resample": "soon"}, "10min"),
    ],
)
def test_requests_that_make_no_sense_are_refused(tmp_path, options, word):
    rates(100, 2).to_csv(tmp_path / "fx.csv", index=False)
    assert word in refused(tmp_path / "fx.csv", tmp_path, **options)


def test_a_folder_with_other_files_is_not_written_to(tmp_path):
    rates(200, 2, holes=0).to_csv(tmp_path / "fx.csv", index=False)
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(LabError, match="other files"):
        import_file(tmp_path / "fx.csv", window=20, out=out)
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_an_import_replaces_an_import_and_leaves_nothing_else(tmp_path):
    rates(200, 2, holes=0).to_csv(tmp_path / "fx.csv", index=False)
    for window in (20, 10):
        import_file(tmp_path / "fx.csv", window=window, out=tmp_path / "fx")
        assert sorted(p.name for p in (tmp_path / "fx").iterdir()) == ["card.json", "dataset.npz", DIGESTS]
        assert load_dataset(tmp_path / "fx").length == window
        assert json.loads((tmp_path / "fx" / "card.json").read_text())["window"]["steps"] == window
