"""Helpers for tests of the importer: create files, import them, and check rejections."""

from pathlib import Path

import numpy as np
import pytest

from e2crf_core.data.datasets import load_dataset
from e2crf_core.data.importing import import_file
from e2crf_core.errors import LabError

CASES = Path(__file__).parent / "cases"


def imported(path, tmp_path, window=24, **options):
    """Import a file; return its data set and the import report."""
    report = import_file(path, window=window, out=tmp_path / "out", **options)
    return load_dataset(tmp_path / "out"), report


def question(path, tmp_path, window=24, **options):
    """Check that a file is rejected with one line and nothing is written; return that line."""
    with pytest.raises(LabError) as refusal:
        import_file(path, window=window, out=tmp_path / "out", **options)
    assert "\n" not in str(refusal.value) and "--" not in str(refusal.value)
    assert not (tmp_path / "out").exists()
    return refusal.value


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(stamps, values=None, header="time,v", form="{},{}"):
    """Return a table of time stamps and values."""
    values = np.arange(len(stamps)) % 7 + 0.5 if values is None else values
    return header + "\n" + "\n".join(form.format(t, v) for t, v in zip(stamps, values, strict=True)) + "\n"


def noted(report, *words):
    return any(all(word in note for word in words) for note in report.notes)
