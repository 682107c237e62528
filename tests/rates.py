"""Files to import, and the line in which an import is refused."""

import numpy as np
import pandas as pd
import pytest

from e2crf_core.data.importing import import_file
from e2crf_core.errors import LabError


def rates(rows=7000, columns=40, *, holes=0.002, seed=0):
    """Exchange rates on business days, with holes."""
    rng = np.random.default_rng(seed)
    walk = np.exp(rng.normal(0, 0.01, (rows, columns)).cumsum(0)).round(5)
    walk[rng.random(walk.shape) < holes] = np.nan
    table = pd.DataFrame(walk, columns=[f"FX{i}" for i in range(columns)])
    table.insert(0, "date", pd.bdate_range("1995-01-02", periods=rows).strftime("%Y-%m-%d"))
    return table


def refused(path, tmp_path, **options):
    """The one line of a refusal, which must leave nothing behind."""
    out = tmp_path / "refused"
    with pytest.raises(LabError) as fault:
        import_file(path, out=out, **{"window": 64, **options})
    assert "\n" not in str(fault.value)
    assert not out.exists()
    return str(fault.value)
