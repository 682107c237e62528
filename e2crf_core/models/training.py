"""Train score models: AdamW, cosine schedule with warm-up, EMA, and a state that survives being killed.

Every batch, noise level, and noise draw is a function of (seed, step) alone, so a resumed training repeats
what an uninterrupted one would do, bit for bit on the same machine with the same number of threads.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import DEFAULT_SCHEDULE, ScoreModel, token_statistics
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason
from e2crf_core.io.locks import claimed
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.models.devices import choose_device
from e2crf_core.models.folders import WEIGHTS
from e2crf_core.models.loss import batch_loss, train_levels
from e2crf_core.models.train_spec import TRAIN_PRESETS, TrainSpec
from e2crf_core.models.training_state import read_state, trained_on, write_state
from e2crf_core.network.host import own_draws, own_settings
from e2crf_core.network.transformer import NetworkConfig, ScoreTransformer


@dataclass(frozen=True)
class TrainEvent:
    """A report from training: `loss` is the mean since the last report, `heldout` that of the EMA weights."""

    step: int
    steps: int
    loss: float
    heldout: float
    best: float
    learning_rate: float
    seconds: float
    seconds_left: float


class Trainer:
    """A training that can be advanced, watched, killed, and resumed. Its state is in `out`/training/."""

    @own_settings()
    def __init__(
        self,
        spec: TrainSpec,
        dataset: Dataset,
        out: Path,
        device: str = "cpu",
        start: ScoreModel | None = None,
    ) -> None:
        self.out = out
        self.device = choose_device(device)
        self.dataset = dataset
        self.data_digest = dataset.digest
        train = dataset.standardize(dataset.x[dataset.train])
        if len(train) < 2 or not len(dataset.heldout):
            raise LabError(
                f"data set {dataset.name!r} has {len(train)} training and {len(dataset.heldout)} held-out windows",
                field="data",
                remedy="import it with a smaller window or stride, or bring more data",
            )
        mu, v, mask = token_statistics(train)
        self.mu, self.v, self.mask = (torch.as_tensor(x, dtype=torch.float32) for x in (mu, v, mask))
        self.v, self.mask = self.v.to(self.device), self.mask.to(self.device)
        self.clean = (torch.as_tensor(tokenize(train)) - self.mu).to(self.device)
        held = dataset.standardize(dataset.x[dataset.heldout])
        self.held = (torch.as_tensor(tokenize(held))[:512] - self.mu).to(self.device)
        config = NetworkConfig(
            tokens=mu.shape[0],
            length=dataset.length,
            channels=len(dataset.channels),
            width=spec.width,
            layers=spec.layers,
            heads=spec.heads,
            hidden=spec.hidden,
            bands=spec.bands,
        )
        with own_draws(spec.seed):
            self.network = ScoreTransformer(config, self.mu, self.v).to(self.device)
        if start is not None:
            self.network.load_state_dict(start.network.state_dict())
        self.average = {k: p.detach().clone() for k, p in self.network.state_dict().items()}
        self.best_weights = {k: p.clone() for k, p in self.average.items()}
        decay = [p for p in self.network.parameters() if p.dim() > 1]
        plain = [p for p in self.network.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": spec.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=spec.learning_rate,
            betas=(0.9, 0.99),
        )
        self.step = 0
        self.best = math.inf
        self.since_best = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.spec = spec
        self._resume()
        if not self.spec.steps:
            self.spec = replace(self.spec, steps=self._steps_for(self.spec.minutes))

    @property
    def state_path(self) -> Path:
        """Return the file from which a resumed training continues."""
        return self.out / "training" / "state.pt"

    def _noise(self, shape: tuple[int, ...], *key: int) -> tuple[torch.Generator, Tensor]:
        seed = np.random.SeedSequence([self.spec.seed, *key]).generate_state(2, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        return generator, torch.randn(shape, generator=generator)

    def _loss(self, step: int) -> Tensor:
        generator, noise = self._noise((self.spec.batch, *self.mu.shape), 1, step)
        index = torch.randint(len(self.clean), (self.spec.batch,), generator=generator)
        levels = train_levels(generator, self.spec.batch)
        keep = 0
        if self.spec.truncation and float(torch.rand((), generator=generator)) < self.spec.truncation:
            keep = int(torch.randint(2, self.mu.shape[0] + 1, (), generator=generator))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.bf16):
            clean = self.clean[index.to(self.device)]
            # Drawn on the host, so that a training does not depend on its device.
            levels, noise = levels.to(self.device), noise.to(self.device)
            return batch_loss(self.network, clean, self.v, self.mask, levels, noise, keep)

    def _rate(self, step: int) -> float:
        warm = max(1, int(self.spec.warmup * self.spec.steps))
        if step < warm:
            return self.spec.learning_rate * (step + 1) / warm
        phase = (step - warm) / max(1, self.spec.steps - warm)
        return self.spec.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, phase))))

    @own_settings()
    def _update(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.spec.clip)
        self.optimizer.step()
        decay = min(self.spec.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return float(loss.detach())

    def _steps_for(self, minutes: float) -> int:
        """Return the steps that fit in `minutes`, by timing a few whose effect a fresh start undoes."""
        saved = {k: p.clone() for k, p in self.network.state_dict().items()}
        self._loss(0).backward()
        begin = time.perf_counter()
        for step in range(5):
            self._loss(step).backward()
        each = (time.perf_counter() - begin) / 5 * 1.1
        self.network.load_state_dict(saved)
        self.optimizer.zero_grad(set_to_none=True)
        return max(50, int(minutes * 60 / each))

    @own_settings()
    @torch.no_grad()
    def heldout_loss(self, weights: dict[str, Tensor] | None = None) -> float:
        """Return the loss of the EMA weights on held-out windows, always with the same noise and levels."""
        present = {k: p.clone() for k, p in self.network.state_dict().items()}
        self.network.load_state_dict(weights or self.average)
        total = 0.0
        generator, noise = self._noise((len(self.held), *self.mu.shape), 2)
        levels = train_levels(generator, len(self.held))
        levels, noise = levels.to(self.device), noise.to(self.device)
        for part in torch.arange(len(self.held)).split(128):
            loss = batch_loss(self.network, self.held[part], self.v, self.mask, levels[part], noise[part])
            total += float(loss) * len(part)
        self.network.load_state_dict(present)
        return total / len(self.held)

    def run(
        self,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[TrainEvent]:
        """Train to the end, yielding a report every `evaluate_every` steps. Cancelling keeps the best so far.

        `progress(done, total)` is called after every step of this run, counted from where it resumed. Raises
        LabError if another process is training in this folder.
        """
        with claimed(self.state_path.parent, "training"):
            yield from self._run(cancelled, progress)

    def _run(
        self, cancelled: Callable[[], bool], progress: Callable[[int, int], None] | None
    ) -> Iterator[TrainEvent]:
        losses: list[float] = []
        begin = time.perf_counter() - self.seconds
        resumed = self.step
        while self.step < self.spec.steps and not cancelled():
            losses.append(self._update())
            if progress is not None:
                progress(self.step - resumed, self.spec.steps - resumed)
            if self.step % self.spec.evaluate_every and self.step != self.spec.steps:
                continue
            heldout = self.heldout_loss()
            self.since_best += 1
            if heldout < self.best:
                self.best, self.since_best = heldout, 0
                self.best_weights = {k: p.clone() for k, p in self.average.items()}
            self.seconds = time.perf_counter() - begin
            mean = float(np.mean(losses))
            losses = []
            self.history.append({"step": self.step, "loss": mean, "heldout": heldout})
            self.save_state()
            left = self.seconds / self.step * (self.spec.steps - self.step)
            yield TrainEvent(
                self.step,
                self.spec.steps,
                mean,
                heldout,
                self.best,
                self._rate(self.step),
                self.seconds,
                left,
            )
            if self.spec.patience and self.since_best >= self.spec.patience:
                return

    def save_state(self) -> None:
        """Write the resumable state."""
        state = {
            "spec": json.dumps(asdict(self.spec)),
            "data": self.data_digest,
            "network": self.network.state_dict(),
            "average": self.average,
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "since_best": self.since_best,
            "seconds": self.seconds,
            "history": json.dumps(self.history),
        }
        write_state(self.state_path, state)

    def _resume(self) -> None:
        try:
            state = self._stored()
            if state is None:
                return
            kept = TrainSpec(**json.loads(state["spec"]))
            if not trained_on(state, self.data_digest, self.mu, self.v):
                raise self._occupied("on other data: the data set was imported anew, or is another one")
            # The same data may have moved.
            asked = replace(self.spec, steps=self.spec.steps or kept.steps, minutes=kept.minutes)
            if asked != replace(kept, data=asked.data):
                raise self._occupied("with other settings")
            self.spec = asked
            self.network.load_state_dict(state["network"])
            # Training states from before version 0.2 spell the key in British English.
            self.optimizer.load_state_dict(state["optimizer" if "optimizer" in state else "optimiser"])
            self.average, self.best_weights = state["average"], state["best_weights"]
            self.step, self.best = state["step"], state["best"]
            self.since_best, self.seconds = state["since_best"], state["seconds"]
            self.history = json.loads(state["history"])
        except LabError:
            raise
        except Exception as fault:  # a damaged state raises whatever its loader stumbles over
            raise self._occupied(f"that cannot be resumed ({reason(fault)})") from None

    def _stored(self) -> dict[str, Any] | None:
        try:
            state = read_state(self.state_path, self.device)
        except LabError as fault:
            raise self._occupied(f"that cannot be resumed ({fault.problem})") from None
        if state is None and (self.out / WEIGHTS).is_file():
            raise self._occupied("of which only the checkpoint is left")
        return state

    def _occupied(self, how: str) -> LabError:
        return LabError(
            f"{self.out} holds a training {how}",
            field="out",
            remedy="choose another folder, or delete that one to train anew",
        )

    @own_settings()
    def model(self) -> ScoreModel:
        """Return the best model so far, in evaluation mode."""
        with own_draws():
            network = ScoreTransformer(self.network.config)
        network.load_state_dict({k: p.cpu() for k, p in self.best_weights.items()})
        return ScoreModel(
            name=self.out.name,
            network=network.eval().requires_grad_(False),
            schedule=DEFAULT_SCHEDULE,
            length=self.dataset.length,
            channels=self.dataset.channels,
            mu=self.mu,
            v=self.v.cpu(),
            mask=self.mask.cpu(),
            mean=self.dataset.mean,
            std=self.dataset.std,
            dataset=self.dataset.reference,
            meta={
                "data_digest": self.data_digest,
                "training": {
                    **asdict(self.spec),
                    "steps_done": self.step,
                    "seconds": round(self.seconds, 1),
                    "threads": torch.get_num_threads(),
                    "cpu_count": os.cpu_count(),
                    "torch": torch.__version__,
                    "parameters": sum(p.numel() for p in network.parameters()),
                    "windows_train": len(self.dataset.train),
                    "windows_heldout": len(self.dataset.heldout),
                },
                "command": self.command(),
                **({"heldout_loss": self.best} if math.isfinite(self.best) else {}),
                "history": self.history,
            },
        )

    def command(self) -> str:
        """Return the command line that repeats this training."""
        sizes = {name: getattr(self.spec, name) for name in TRAIN_PRESETS["paper"]}
        preset = "paper" if sizes == TRAIN_PRESETS["paper"] else "compact"
        extras = "".join(
            f" --{name} {getattr(self.spec, name)}"
            for name in ("patience", "truncation")
            if getattr(self.spec, name)
        ) + (" --bf16" if self.spec.bf16 else "")
        if self.spec.bands:
            extras += f" --bands {','.join(map(str, self.spec.bands))}"
        return (
            f"python -m e2crf_core train --data {self.spec.data} --preset {preset} --steps {self.spec.steps}"
            f" --batch {self.spec.batch} --seed {self.spec.seed}{extras}"
            f" --threads {torch.get_num_threads()} --out {self.out.name}"
        )

    def save(self) -> ScoreModel:
        """Write the best model so far to `out` as a checkpoint."""
        model = self.model()
        save_checkpoint(model, self.out)
        return model
