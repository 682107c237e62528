"""Frequency-domain diffusion of time series, accelerated by E²-CRF caching."""

# ruff: noqa: E402

from e2crf_core.threads import wait_passively

wait_passively()  # before torch is imported below, where it is read once

from e2crf_core.caching.events import Reason, StepEvent
from e2crf_core.caching.policy import PRESETS, CachePolicy, PolicyError
from e2crf_core.data.datasets import Dataset, list_datasets, load_dataset
from e2crf_core.deploy.card import PolicyCard, load_policy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.network.protocol import TokenNetwork
from e2crf_core.runs.run import RunHandle, RunResult, RunSpec
from e2crf_core.sampling import nested as _nested  # noqa: F401 (registers its trigger)
from e2crf_core.sampling import nested_live as _nested_live  # noqa: F401 (registers its trigger)
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.forecast import Forecast, predict
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler, Samples
from e2crf_core.version import __version__

__all__ = [
    "PRESETS",
    "CachePolicy",
    "Dataset",
    "Forecast",
    "LabError",
    "PolicyCard",
    "PolicyError",
    "Reason",
    "Recorder",
    "RunHandle",
    "RunResult",
    "RunSpec",
    "Sampler",
    "SamplerConfig",
    "Samples",
    "ScoreModel",
    "StepEvent",
    "TokenNetwork",
    "__version__",
    "list_checkpoints",
    "list_datasets",
    "load_checkpoint",
    "load_dataset",
    "load_policy",
    "predict",
]
