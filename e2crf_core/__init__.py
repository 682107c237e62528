"""Frequency-domain diffusion of time series, accelerated by E²-CRF caching."""

import os

# Threads of the maths library that spin while they wait starve each other as soon as anything else wants a core
# (a browser, a second run): steps of 2 ms were measured to take 400 ms. Read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from e2crf_core.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.data import Dataset, list_datasets, load_dataset
from e2crf_core.errors import LabError
from e2crf_core.events import Reason, StepEvent
from e2crf_core.model import ScoreModel
from e2crf_core.policy import PRESETS, CachePolicy, PolicyError
from e2crf_core.policy_card import PolicyCard, load_policy
from e2crf_core.recorder import Recorder
from e2crf_core.run import RunHandle, RunResult, RunSpec
from e2crf_core.sampler import Sampler, Samples

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "CachePolicy",
    "Dataset",
    "LabError",
    "PolicyCard",
    "PolicyError",
    "Reason",
    "Recorder",
    "RunHandle",
    "RunResult",
    "RunSpec",
    "Sampler",
    "Samples",
    "ScoreModel",
    "StepEvent",
    "list_checkpoints",
    "list_datasets",
    "load_checkpoint",
    "load_dataset",
    "load_policy",
]
