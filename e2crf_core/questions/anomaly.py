"""Score how improbable a window is under a model, and which of its values are to blame.

The score is the divergence of a window x, seen through noise of standard deviation sigma, from the model's law
seen through the same noise: KL(N(x, sigma²) || p_sigma), in nats and up to a constant. A denoiser gives it
without a density, because each noise level adds half its squared error (Kong et al., ICLR 2023, eq. 8):

    S(x) = 1/2 int_0^{1 / sigma²} E |x - D(z)|² d(snr),    z = a x + s eps,    snr = (a / s)².

The closed-form denoiser D_G of E3 has the integral 1/2 sum c² / (v + sigma²) + const with c = x - mu, so only
the network's part is estimated, E (|x - D|² - |x - D_G|²), on the same noise for both denoisers and all
windows. With F = 0, the score is exactly the Gaussian's. Both parts are sums over steps and channels: the first
of squares of the whitened series, the second of squared errors in time (Parseval).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from e2crf_core.diffusion.conditioning import NOISE
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.diffusion.score_model import ScoreModel, precondition
from e2crf_core.diffusion.spectral import detokenize, detokenize_torch, tokenize
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.network.forward import plain_forward
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.interval import Interval
from e2crf_core.questions.baselines import gaussian

LEVELS = 10
"""Noise levels of the integral, even in log(a/s) from LOWEST to -log NOISE."""
LOWEST = -3.0
BATCH = 64
FEWEST_KNOWN = 0.25
"""A window with a smaller share of known values is not scored."""
FARTHEST = 1e6
"""Values farther from the mean, in standard deviations, count as this far, so that squares stay finite."""


@dataclass(frozen=True)
class Scores:
    """The scores of W windows in nats: `total` (W,) is the sum of `per_step` (W, N, M). Higher is less probable.

    A missing value has no contribution (NaN); the total counts an average one for it, so that windows with gaps
    can be compared with others. Both are NaN for windows with too few known values.
    """

    total: np.ndarray
    per_step: np.ndarray


@dataclass(frozen=True)
class Threshold:
    """The score above which a window is called anomalous, and the rate at which normal windows exceed it.

    `value` is an order statistic of the calibration scores, so `rate` is their exceedance with the exact 95%
    interval (beta distribution) for other windows of the same law. `windows` counts independent windows.
    """

    value: float
    rate: Interval
    windows: int


@dataclass(frozen=True)
class Detector:
    """A model with the scores of normal windows, which no training has seen.

    `normal` (K,) holds their sorted totals, `mean` the average contribution of one value. Of windows that
    overlap, `independent` is how many would not.
    """

    model: ScoreModel
    draws: int
    seed: int
    normal: np.ndarray
    mean: float
    independent: int

    @staticmethod
    def fit(
        model: ScoreModel,
        windows: np.ndarray,
        *,
        blocks: np.ndarray | None = None,
        draws: int = 1,
        seed: int = 0,
        progress: Progress = silent,
        cancelled: Cancel = never,
    ) -> Detector:
        """Calibrate on normal windows (K, N, M) in data units; `blocks` (K,) labels those that overlap.

        `draws` is the number of noise draws at each level; each is used with both signs. Raises LabError for
        fewer than two windows, or none with enough known values.
        """
        if draws < 1:
            raise LabError(f"draws {draws}", field="draws", remedy="use at least 1")
        blank = Detector(model, draws, seed, np.empty(0), 0.0, 0)
        total = blank.score(windows, progress=progress, cancelled=cancelled).total
        scored = ~np.isnan(total)
        if scored.sum() < 2:
            raise LabError(
                f"{int(scored.sum())} normal windows to calibrate on",
                field="windows",
                remedy="give at least 2, better 100, with few missing values",
            )
        missing = np.isnan(windows).sum((1, 2))[scored]
        mean = float(total[scored].sum() / (scored.sum() * windows[0].size - missing.sum()))
        independent = int(scored.sum()) if blocks is None else len(np.unique(np.asarray(blocks)[scored]))
        normal = np.sort(total[scored] + mean * missing)
        return replace(blank, normal=normal, mean=mean, independent=independent)

    def score(self, windows: np.ndarray, *, progress: Progress = silent, cancelled: Cancel = never) -> Scores:
        """Score windows (W, N, M) in data units; missing values are NaN.

        Missing values are filled with their mean under E3 given the known ones, which leaves the Gaussian part
        at its exact value for the known ones alone. Raises LabError for another shape or infinite values.
        """
        model = self.model
        windows = np.asarray(windows, dtype=np.float64)
        shape = (model.length, len(model.channels))
        if windows.ndim != 3 or windows.shape[1:] != shape:
            raise LabError(
                f"windows have shape {windows.shape[1:]}, this model's {shape} (steps, channels)",
                field="windows",
                remedy="cut the series into windows of that shape",
            )
        if np.isinf(windows).any():
            raise LabError("a value is infinite", field="windows", remedy="mark it as missing")
        x = np.clip((windows - model.mean) / model.std, -FARTHEST, FARTHEST)
        missing = np.isnan(x)
        total, per_step = np.full(len(x), np.nan), np.full(x.shape, np.nan)
        index = np.flatnonzero(missing.mean((1, 2)) <= 1 - FEWEST_KNOWN)
        for first in range(0, len(index), BATCH):
            if cancelled():
                raise Cancelled
            part = index[first : first + BATCH]
            filled = _filled(model, x[part])
            closed, learned = gaussian_part(model, filled), self._network_part(filled)
            gaps = missing[part]
            # The squares of all whitened values are the Gaussian score of the known ones.
            total[part] = (closed + np.where(gaps, self.mean, learned)).sum((1, 2))
            per_step[part] = np.where(gaps, np.nan, closed + learned)
            progress(first + len(part), len(index))
        return Scores(total, per_step)

    def threshold(self, false_alarms: float = 0.05) -> Threshold:
        """Return the score that a share `false_alarms` of normal windows exceed, at most, on average.

        Raises LabError if the normal windows are too few for so small a share.
        """
        count = len(self.normal)
        if not 0 < false_alarms < 1:
            raise LabError(
                f"false alarms {false_alarms}", field="false_alarms", remedy="choose a share between 0 and 1"
            )
        above = int(np.floor(false_alarms * (count + 1) + 1e-9))
        if above < 1:
            raise LabError(
                f"{count} normal windows cannot show a share of {false_alarms:g} of false alarms",
                field="false_alarms",
                remedy=f"choose at least {1 / (count + 1):.2g}, or calibrate on more windows",
            )
        # The windows above an order statistic of `count` scores have a beta-distributed share of the law; windows
        # that overlap count as fewer.
        size = self.independent / count
        share = stats.beta(above * size, (count + 1 - above) * size)
        low, high = share.ppf([0.025, 0.975]).tolist()
        rate = Interval(above / (count + 1), low, high)
        return Threshold(float(self.normal[count - above]), rate, self.independent)

    def _network_part(self, x: np.ndarray) -> np.ndarray:
        """Return (B, N, M) the network's part of the score of standardized windows without gaps."""
        model = self.model
        levels = np.linspace(LOWEST, -np.log(NOISE), LEVELS)
        noise = NoiseStream(self.seed, self.draws, model.mask, dtype=model.dtype)
        z0 = torch.as_tensor(tokenize(x)).to(model.mu) * model.mask
        total = torch.zeros(x.shape, dtype=torch.float64, device=model.device)
        width = float(levels[1] - levels[0])
        with torch.inference_mode():
            for place, level in enumerate(levels.tolist()):
                weight = (
                    width * np.exp(2 * level) / (2 * self.draws) * (0.5 if place in (0, LEVELS - 1) else 1)
                )
                for eps in noise.at(place):
                    for sign in (1.0, -1.0):
                        total += weight * _excess(model, z0, sign * eps, level)
        return total.cpu().numpy()


def _filled(model: ScoreModel, x: np.ndarray) -> np.ndarray:
    """Return standardized windows (B, N, M) with missing values at their mean under E3."""
    missing = np.isnan(x)
    if not missing.any():
        return x
    filled = x.copy()
    for place in np.flatnonzero(missing.any((1, 2))):
        filled[place] = np.where(missing[place], gaussian(model, x[place]).mean, x[place])
    return filled


def gaussian_part(model: ScoreModel, x: np.ndarray) -> np.ndarray:
    """Return (B, N, M) half the squares of the series whitened by N(mu, v + NOISE²)."""
    mu, v, mask = (part.double().cpu().numpy() for part in (model.mu, model.v, model.mask))
    whitened = detokenize(mask * (tokenize(x) - mu) / np.sqrt(v + NOISE * NOISE), model.length)
    return 0.5 * whitened**2


def _excess(model: ScoreModel, z0: Tensor, eps: Tensor, level: float) -> Tensor:
    """Return (B, N, M) squared errors of D minus those of D_G in time, for tokens z0 (B, n, 2M) at log(a/s)."""
    s = float(1 / np.sqrt(1 + np.exp(2 * level)))
    a = float(np.exp(level)) * s
    part = precondition(model.v, a, s)
    centered = a * (z0 - model.mu) + s * eps
    condition = torch.tensor(level, dtype=torch.float64, device=model.device)
    network = model.network
    prepared = network.prepare(part.c_in * centered, condition)
    output = network.head(plain_forward(network, prepared, network.condition(condition)))
    error = z0 - model.mu - part.c_skip * centered
    both = torch.stack([error - part.c_out * output, error]) * model.mask
    square = detokenize_torch(both, model.length).double().square()
    return square[0] - square[1]
