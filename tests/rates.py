"""Files to import, and the message of a rejected import."""

import numpy as np
import pandas as pd
import pytest

from e2crf_core.data.importing import import_file
from e2crf_core.errors import LabError


def rates(rows=7000, columns=40, *, holes=0.002, seed=0):
    """Return exchange rates on business days, with gaps."""
    rng = np.random.default_rng(seed)
    walk = np.exp(rng.normal(0, 0.01, (rows, columns)).cumsum(0)).round(5)
    walk[rng.random(walk.shape) < holes] = np.nan
    table = pd.DataFrame(walk, columns=[f"FX{i}" for i in range(columns)])
    table.insert(0, "date", pd.bdate_range("1995-01-02", periods=rows).strftime("%Y-%m-%d"))
    return table


def refused(path, tmp_path, **options):
    """Return the one-line message of a rejected import, which must leave no files behind."""
    out = tmp_path / "refused"
    with pytest.raises(LabError) as fault:
        import_file(path, out=out, **{"window": 64, **options})
    assert "\n" not in str(fault.value)
    assert not out.exists()
    return str(fault.value)
