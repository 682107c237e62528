"""The configurations that the tests of evaluation measure."""

import json

from e2crf_core.evaluation.config import parse_configs
from e2crf_core.sampling.config import SamplerConfig

TABLE = [
    {"name": "EM", "solver": "euler_maruyama", "grid": "linear", "steps": 12, "policy": None},
    {"name": "EM exact", "solver": "euler_maruyama", "grid": "linear", "steps": 12, "policy": "exact"},
    {
        "name": "EM <b>every 4",
        "solver": "euler_maruyama",
        "grid": "linear",
        "steps": 12,
        "policy": {"trigger": "fixed", "refresh_every": 4},
    },
    {"name": "DPM++", "solver": "dpmpp_2m", "grid": "log_snr", "steps": 4, "policy": None},
]


def configs() -> dict[str, SamplerConfig]:
    return parse_configs(json.dumps(TABLE))
