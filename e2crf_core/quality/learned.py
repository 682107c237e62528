"""Measure quality with small networks: can they tell samples from data, learn from them, embed them alike?

Results depend on the network and its training, so these scores are comparable only with one another. All
networks are small, seeded, and trained on the CPU; none changes the global random state. Series are
standardized arrays (S, N, M), as in `e2crf_core.quality.distances`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2crf_core.errors import Cancelled, LabError
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.distances import Metric, Picks, check_pair
from e2crf_core.quality.intervals import Measurement

_BATCH = 64
_FOLDS = 4


class _CausalConvolution(nn.Module):
    """Dilated convolutions over the past: output t depends on inputs 0..t. (B, M, N) -> (B, M, N)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.inlet = nn.Conv1d(channels, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=1 << k) for k in range(5))
        self.outlet = nn.Conv1d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inlet(x)
        for k, layer in enumerate(self.layers):
            h = h + F.gelu(layer(F.pad(h, (1 << k, 0))))
        # The forecast corrects "as now": an untrained network already equals persistence.
        return x + self.outlet(h)


class _Encoder(nn.Module):
    """Convolutions, then mean and maximum over 8 stretches of time: (B, M, N) -> (B, outputs)."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, width, 7, stride=2, padding=3)
        self.second = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.outlet = nn.Linear(2 * 8 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.second(F.gelu(self.first(x))))
        pooled = torch.cat([F.adaptive_avg_pool1d(h, 8), F.adaptive_max_pool1d(h, 8)], 1)
        return self.outlet(pooled.flatten(1))


def _seeded(build: Callable[[], nn.Module], generator: torch.Generator) -> nn.Module:
    """Return the module with weights drawn from `generator` alone, so that other threads are unaffected."""
    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
        else:
            nn.init.zeros_(parameter)
    return model


def _fit(
    model: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    progress: Progress,
    cancelled: Cancel,
    first: int = 0,
    total: int | None = None,
) -> None:
    """Minimize `loss()` by AdamW with a cosine-decayed rate, as steps `first`... of `total`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for step in range(steps):
        if cancelled():
            raise Cancelled
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 9 or step == steps - 1:
            progress(first + step + 1, total or steps)
    model.eval()


def _channels_first(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, 2, 1), dtype=np.float32))


def _draw(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[torch.randint(len(x), (_BATCH,), generator=generator)]


@torch.no_grad()
def _apply(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for part in x.split(512)])


def _correct(
    fake: Tensor, real: Tensor, steps: int, seed: int, progress: Progress, cancelled: Cancel
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether a classifier trained without its fold recognized each series, (n,) and (m,)."""
    generator = torch.Generator().manual_seed(seed)
    folds = [torch.randperm(len(x), generator=generator) % _FOLDS for x in (fake, real)]
    hits = [np.zeros(len(x), dtype=bool) for x in (fake, real)]
    for fold in range(_FOLDS):
        known = [x[f != fold] for x, f in zip((fake, real), folds, strict=True)]
        model = _seeded(lambda: _Encoder(fake.shape[1], 24, 1), generator)

        def loss(known: list[Tensor] = known, model: nn.Module = model) -> Tensor:
            # Use equal shares of both kinds; otherwise the larger set could be recognized by its size.
            logits = [model(_draw(x, generator)) for x in known]
            return F.softplus(-logits[0]).mean() + F.softplus(logits[1]).mean()

        _fit(model, loss, steps, progress, cancelled, fold * steps, _FOLDS * steps)
        for which, (x, f) in enumerate(zip((fake, real), folds, strict=True)):
            logit = _apply(model, x[f == fold])[:, 0]
            hits[which][(f == fold).numpy()] = (logit > 0 if which == 0 else logit <= 0).numpy()
    return hits[0], hits[1]


def discriminative_score(
    samples: np.ndarray,
    real: np.ndarray,
    *,
    steps: int = 150,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Measurement:
    """Return balanced accuracy minus 1/2 of a classifier of samples (n, N, M) and real series (m, N, M).

    0 means that it cannot tell them apart, 0.5 that it is always right. Uses cross-validation in 4 folds, so
    that each series is judged once, by a network that did not see it. The score is signed: below 0 is chance
    (other tools print the absolute value). The interval bootstraps the series, not the training.
    """
    samples, real = check_pair(samples, real)
    if min(len(samples), len(real)) < 2 * _FOLDS:
        raise LabError(
            f"a discriminative score needs at least {2 * _FOLDS} series of each kind, "
            f"got {len(samples)} and {len(real)}"
        )
    fake, truth = _channels_first(samples), _channels_first(real)
    hits = _correct(fake, truth, steps, seed, progress, cancelled)
    rng = np.random.default_rng([0xD15C, seed])
    replicates = [
        np.mean([h[rng.integers(0, len(h), len(h))].mean() for h in hits]) - 0.5 for _ in range(500)
    ]
    low, high = np.quantile(replicates, [0.025, 0.975])
    value = float(np.mean([h.mean() for h in hits])) - 0.5
    return Measurement(
        value, float(low), float(high), "discriminative_score", "accuracy - 1/2", len(samples), len(real)
    )


def _forecast_errors(
    known: Tensor,
    real: Tensor,
    steps: int,
    seed: int,
    progress: Progress,
    cancelled: Cancel,
) -> np.ndarray:
    """Return (m,) mean absolute one-step error on each real series, for a forecaster trained on `known`."""
    generator = torch.Generator().manual_seed(seed)
    model = _seeded(lambda: _CausalConvolution(known.shape[1], 24), generator)

    def loss() -> Tensor:
        x = _draw(known, generator)
        return (model(x[..., :-1]) - x[..., 1:]).abs().mean()

    _fit(model, loss, steps, progress, cancelled)
    return (_apply(model, real[..., :-1]) - real[..., 1:]).abs().mean((1, 2)).double().numpy()


def predictive_score(
    samples: np.ndarray,
    real: np.ndarray,
    *,
    steps: int = 200,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Measurement:
    """Train on synthetic, test on real: return the mean absolute error of one-step forecasts, in std.

    A small causal network learns on samples (n, N, M) to forecast all channels from their past, and is tested
    on real series (m, N, M). The interval bootstraps the real series, not the training.
    """
    samples, real = check_pair(samples, real)
    if samples.shape[1] < 2:
        raise LabError("a forecast needs series of at least 2 steps")
    truth = _channels_first(real)
    errors = _forecast_errors(_channels_first(samples), truth, steps, seed, progress, cancelled)
    rng = np.random.default_rng([0x93ED, seed])
    replicates = [errors[rng.integers(0, len(errors), len(errors))].mean() for _ in range(500)]
    low, high = np.quantile(replicates, [0.025, 0.975])
    value = float(errors.mean())
    return Measurement(value, float(low), float(high), "predictive_score", "std", len(samples), len(real))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared 2-Wasserstein distance of Gaussians with the moments of a (n, d) and b (m, d)."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    cov_a, cov_b = (np.cov(x.T, bias=True).reshape(x.shape[1], -1) for x in (a, b))
    weights, axes = np.linalg.eigh(cov_a)
    root = (axes * np.sqrt(np.maximum(weights, 0))) @ axes.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def _damaged(x: Tensor, damage: Tensor, generator: torch.Generator) -> Tensor:
    """Damage each series of x (B, M, N) by kind: 0 none, 1 noise, 2 smoothing, 3 shuffled phases."""
    noisy = x + 0.2 * torch.randn(x.shape, generator=generator)
    smooth = F.avg_pool1d(F.pad(x, (2, 2), mode="replicate"), 5, stride=1)
    spectrum = torch.fft.rfft(x)
    angle = 2 * torch.pi * torch.rand(len(x), 1, spectrum.shape[-1], generator=generator)
    angle[..., 0] = 0.0
    shuffled = torch.fft.irfft(spectrum * torch.polar(torch.ones_like(angle), angle), n=x.shape[-1])
    kinds = torch.stack([x, noisy, smooth, shuffled])
    return kinds[damage, torch.arange(len(x))]


def context_fid_metric(
    reference: np.ndarray,
    *,
    dimension: int = 16,
    steps: int = 300,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Metric:
    """Return a Frechet distance in the space of an embedder trained on `reference` (S, N, M), the data.

    The embedder learns to restore damaged series and to name the damage (none, noise, smoothing, shuffled
    phases), so that it sees content and the texture that generators get wrong. Embeddings are scaled to unit
    variance over `reference`, so the distance is in squared standard deviations of features, summed over
    `dimension` of them. Use it with `e2crf_core.quality.intervals.measure`: with few series its bias is
    large.
    """
    reference, _ = check_pair(reference, reference)
    generator = torch.Generator().manual_seed(seed)
    x = _channels_first(reference)
    channels, length = x.shape[1:]
    encoder = _seeded(lambda: _Encoder(channels, 24, dimension), generator)
    restore = _seeded(
        lambda: nn.Sequential(nn.Linear(dimension, 128), nn.GELU(), nn.Linear(128, channels * length)),
        generator,
    )
    name = _seeded(lambda: nn.Linear(dimension, 4), generator)

    def loss() -> Tensor:
        batch = _draw(x, generator)
        damage = torch.arange(len(batch)) % 4
        code = encoder(_damaged(batch, damage, generator))
        return F.mse_loss(restore(code), batch.flatten(1)) + F.cross_entropy(name(code), damage)

    _fit(nn.ModuleList([encoder, restore, name]), loss, steps, progress, cancelled)
    scale = _apply(encoder, x).double().numpy().std(0)
    scale = np.maximum(scale, 1e-6 * max(scale.max(), 1e-300))

    def over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
        u, v = (_apply(encoder, _channels_first(s)).double().numpy() / scale for s in (a, b))
        return np.array([frechet_distance(u[i], v[j]) for i, j in picks])

    return Metric("context_fid", "Context-FID", "feature std²", over)
