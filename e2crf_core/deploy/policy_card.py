"""A policy card: what goes into production, how it was measured, and the range in which it counts as unchanged.

Three lines run it anywhere:

    card = load_policy("card.json")
    sampler = Sampler(card.model(), card.policy, **card.settings)
    series = sampler.sample(num=16, seed=0).series
"""

from __future__ import annotations

import hashlib
import html
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.caching.policy import POLICY_SCHEMA, CachePolicy
from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.evaluation.heldout import heldout_blocks
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.quality.distances import relative_l2, sliced_wasserstein_metric
from e2crf_core.quality.intervals import Measurement, measure_change, resample_picks
from e2crf_core.quality.intervals import measure as measure_distance
from e2crf_core.sampling.batch import Part, draw
from e2crf_core.sampling.sampler import Sampler, check_request, warm_up
from e2crf_core.version import __version__

CARD_SCHEMA = 1
MAX_CARD_BYTES = 1_000_000
DIRECTIONS = 500
RESAMPLES = 200
# How far beyond the measured interval a re-measured figure may lie: other machines round differently.
QUALITY_SLACK = 1.25
LEAST_RELATIVE_L2 = 1e-3
WORK_SLACK = 0.9
WALL_SLACK = 0.7

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Interval:
    """A figure with the range it was seen in: 95% bootstrap for quality, all batches for speed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """What a policy did on `num` samples of `seed`, against the same solver without a cache on the same noise.

    Seconds are for one sample, medians over batches that alternate with uncached ones. Distances are in
    standard deviations of the data; None where the data set is not at hand.
    """

    num: int
    seed: int
    seconds: Interval
    seconds_uncached: Interval
    speedup_wall: Interval
    speedup_flops: float
    token_share: float
    relative_l2: Interval
    sliced_wasserstein: Interval | None
    sliced_wasserstein_change: Interval | None
    sliced_wasserstein_floor: float | None
    heldout: int | None


@dataclass(frozen=True)
class Validity:
    """Bounds that a re-measurement must keep, or the card no longer holds."""

    relative_l2_max: float
    sliced_wasserstein_change_max: float | None
    speedup_wall_min: float
    speedup_flops_min: float


@dataclass(frozen=True)
class PolicyCard:
    """A deployable policy with its provenance. `checkpoint` is a shipped name or a folder."""

    checkpoint: str
    digest: str
    profile: str
    dataset: str
    policy: CachePolicy
    solver: str
    grid: str
    steps: int
    batch: int
    device: str
    measured: Measured
    valid: Validity
    machine: dict[str, Any]
    versions: dict[str, str]
    folder: Path = field(default=Path("."), compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments of Sampler beside model and policy."""
        return {"steps": self.steps, "solver": self.solver, "grid": self.grid, "batch": self.batch}

    def model(self, device: str = "auto") -> ScoreModel:
        """The checkpoint that the card speaks of. Raises LabError when it is missing or has other weights."""
        name: str | Path = self.checkpoint
        if name not in list_checkpoints() and not Path(name).is_absolute():
            name = self.folder / name
        model = load_checkpoint(name, device)
        if model.digest() != self.digest or profile_digest(model) != self.profile:
            raise CheckpointChanged(
                f"checkpoint {self.checkpoint} has digest {model.digest()[:12]}, the card was measured on"
                f" {self.digest[:12]}"
                + (", and another profile" if profile_digest(model) != self.profile else "")
                + ": measure it again with 'deploy'"
            )
        return model

    def to_json(self) -> str:
        """JSON text; `from_json` restores an equal card."""
        stored = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "folder"}
        stored |= {
            "policy": json.loads(self.policy.to_json()),
            "measured": asdict(self.measured),
            "valid": asdict(self.valid),
        }
        return json.dumps({"schema": CARD_SCHEMA, "kind": "e2crf-policy", **stored}, indent=1)

    @staticmethod
    def from_json(text: str, folder: Path = Path(".")) -> PolicyCard:
        """Read a card; `folder` is where a relative checkpoint path starts. Raises LabError that says what is wrong."""
        try:
            stored = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as fault:
            raise LabError(f"policy card: not JSON: {fault}") from None
        if not isinstance(stored, dict) or stored.get("kind") != "e2crf-policy":
            raise LabError("policy card: this JSON is no policy card: make one with 'deploy'")
        if stored.get("schema") != CARD_SCHEMA:
            raise LabError(f"policy card: schema {stored.get('schema')!r}, this version reads {CARD_SCHEMA}")
        try:
            card = PolicyCard(
                **{name: _text(stored, name) for name in _TEXTS},
                policy=CachePolicy.from_json(json.dumps(stored["policy"])),
                steps=_whole(stored, "steps"),
                batch=_whole(stored, "batch"),
                measured=_measured(stored["measured"]),
                valid=Validity(
                    relative_l2_max=_number(stored["valid"], "relative_l2_max"),
                    sliced_wasserstein_change_max=_maybe(stored["valid"], "sliced_wasserstein_change_max"),
                    speedup_wall_min=_number(stored["valid"], "speedup_wall_min"),
                    speedup_flops_min=_number(stored["valid"], "speedup_flops_min"),
                ),
                machine=dict(stored["machine"]),
                versions={str(k): str(v) for k, v in stored["versions"].items()},
                folder=folder,
            )
        except KeyError as fault:
            raise LabError(f"policy card: lacks {fault.args[0]!r}: make it again with 'deploy'") from None
        except (TypeError, AttributeError, ValueError) as fault:
            if isinstance(fault, LabError):
                raise
            raise LabError(f"policy card: {fault}") from None
        if card.batch < 1:
            raise LabError(f"policy card: batch {card.batch}: must be at least 1")
        check_request(card.measured.num, card.measured.seed)
        return card


class CheckpointChanged(LabError):
    """The weights on disk are not those that a card was measured on."""


_TEXTS = ("checkpoint", "digest", "profile", "dataset", "solver", "grid", "device")


def _text(stored: dict[str, Any], name: str) -> str:
    value = stored[name]
    if not isinstance(value, str):
        raise LabError(f"policy card: {name}: a text expected, not {value!r}")
    return value


def _number(stored: dict[str, Any], name: str) -> float:
    value = stored[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise LabError(f"policy card: {name}: a number expected, not {value!r}")
    return float(value)


def _whole(stored: dict[str, Any], name: str) -> int:
    value = stored[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise LabError(f"policy card: {name}: a whole number expected, not {value!r}")
    return value


def _maybe(stored: dict[str, Any], name: str) -> float | None:
    return None if stored[name] is None else _number(stored, name)


def _interval(stored: dict[str, Any] | None) -> Interval:
    if not isinstance(stored, dict):
        raise LabError(f"policy card: an object with value, low and high expected, not {stored!r}")
    return Interval(*(_number(stored, part) for part in ("value", "low", "high")))


def _measured(stored: dict[str, Any]) -> Measured:
    def maybe(name: str) -> Interval | None:
        return None if stored[name] is None else _interval(stored[name])

    return Measured(
        num=_whole(stored, "num"),
        seed=_whole(stored, "seed"),
        seconds=_interval(stored["seconds"]),
        seconds_uncached=_interval(stored["seconds_uncached"]),
        speedup_wall=_interval(stored["speedup_wall"]),
        speedup_flops=_number(stored, "speedup_flops"),
        token_share=_number(stored, "token_share"),
        relative_l2=_interval(stored["relative_l2"]),
        sliced_wasserstein=maybe("sliced_wasserstein"),
        sliced_wasserstein_change=maybe("sliced_wasserstein_change"),
        sliced_wasserstein_floor=_maybe(stored, "sliced_wasserstein_floor"),
        heldout=None if stored["heldout"] is None else _whole(stored, "heldout"),
    )


def profile_digest(model: ScoreModel) -> str:
    """SHA-256 of the model's profile, which the clock of a policy may follow."""
    return hashlib.sha256(json.dumps(asdict(model.profile)).encode()).hexdigest()


def load_policy(path: str | Path) -> PolicyCard:
    """Read a policy card: `.policy`, `.settings` and `.model()` are what a Sampler needs. Raises LabError."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise LabError(f"policy card {path} is larger than 1 MB: that is no card")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise LabError(f"policy card {path} is not UTF-8 text") from None
    except OSError as fault:
        raise LabError(f"policy card {path} cannot be read: {fault.strerror}") from None
    return PolicyCard.from_json(text, path.resolve().parent)


def measure_policy(
    model: ScoreModel,
    policy: CachePolicy,
    *,
    steps: int,
    solver: str,
    grid: str,
    batch: int,
    num: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> Measured:
    """Run a policy and its uncached twin, batch by batch in turns, and compare them.

    The twin has the same noise. Distances are measured where the model's data set can be loaded.
    """
    check_request(num, seed)
    if num < 2:
        raise LabError(f"num {num}: a card needs at least 2 samples")
    options: dict[str, Any] = {"steps": steps, "solver": solver, "grid": grid, "batch": batch}
    cached, plain = Sampler(model, policy, **options), Sampler(model, **options, cached=False)
    sizes = [min(batch, num - first) for first in range(0, num, batch)]
    for sampler in (cached, plain):
        warm_up(sampler, sizes[0], seed)
    parts: dict[bool, list[Part]] = {True: [], False: []}
    done = 0
    for index, size in enumerate(sizes):
        order = (True, False) if index % 2 == 0 else (False, True)
        for mine in order:
            parts[mine].append(draw(cached if mine else plain, size, seed, index * batch))
            done += 1
            progress(done, 2 * len(sizes))
    series, twin = (np.concatenate([p.series for p in parts[mine]]) for mine in (True, False))
    seconds, seconds_plain = ([p.seconds / len(p.series) for p in parts[mine]] for mine in (True, False))
    rows, prepared = sum(p.rows for p in parts[True]), sum(p.prepared for p in parts[True])
    scaled, scaled_twin = (((x - model.mean) / model.std).astype(np.float64) for x in (series, twin))
    if not (np.isfinite(scaled).all() and np.isfinite(scaled_twin).all()):
        raise LabError("the samples are not finite: this policy and solver cannot be deployed")
    distance, change = _distances(model, series, twin)
    return Measured(
        num=num,
        seed=seed,
        seconds=_range(seconds),
        seconds_uncached=_range(seconds_plain),
        speedup_wall=_range([b / a for a, b in zip(seconds, seconds_plain, strict=True)]),
        speedup_flops=cached.full_flops(num) / cached.flops(rows, prepared, num),
        token_share=rows / (num * model.n * steps),
        relative_l2=_relative_l2(scaled, scaled_twin, seed),
        sliced_wasserstein=None
        if distance is None
        else Interval(distance.value, distance.low, distance.high),
        sliced_wasserstein_change=None if change is None else Interval(change.value, change.low, change.high),
        sliced_wasserstein_floor=None if distance is None else distance.floor,
        heldout=None if distance is None else distance.m,
    )


def _range(values: list[float]) -> Interval:
    return Interval(float(np.median(values)), float(min(values)), float(max(values)))


def _relative_l2(a: np.ndarray, b: np.ndarray, seed: int) -> Interval:
    error, energy = np.square(a - b).sum((1, 2)), np.square(b).sum((1, 2))
    picks = resample_picks(len(a), 1, resamples=RESAMPLES, seed=seed)
    replicates = [np.sqrt(error[i].sum() / max(energy[i].sum(), 1e-300)) for i, _ in picks]
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Interval(relative_l2(a, b), float(low), float(high))


def _distances(
    model: ScoreModel, series: np.ndarray, twin: np.ndarray
) -> tuple[Measurement | None, Measurement | None]:
    """Sliced Wasserstein to held-out data, and its change against the twin; None without the data set."""
    try:
        data = load_dataset(model.dataset)
    except LabError:
        return None, None
    held, train = (data.standardize(data.x[i]) for i in (data.heldout, data.train))
    a, b = data.standardize(series), data.standardize(twin)
    metric, blocks = sliced_wasserstein_metric(directions=DIRECTIONS), heldout_blocks(data)
    distance = measure_distance(
        a, held, metric, train=train, resamples=RESAMPLES, floor_repeats=10, blocks=blocks
    )
    return distance, measure_change(a, b, held, metric, resamples=RESAMPLES, blocks=blocks)


def valid_range(measured: Measured) -> Validity:
    """The bounds that go with a measurement: its intervals, and slack for other machines and other loads."""
    change, distance = measured.sliced_wasserstein_change, measured.sliced_wasserstein
    return Validity(
        relative_l2_max=max(QUALITY_SLACK * measured.relative_l2.high, LEAST_RELATIVE_L2),
        sliced_wasserstein_change_max=None
        if change is None or distance is None
        else max(change.high, change.value + (QUALITY_SLACK - 1) * distance.value),
        # A speed-up beyond the operations saved is what else the machine did meanwhile: it must not become a bound.
        speedup_wall_min=WALL_SLACK * min(measured.speedup_wall.low, measured.speedup_flops),
        speedup_flops_min=WORK_SLACK * measured.speedup_flops,
    )


def make_card(
    checkpoint: str,
    model: ScoreModel,
    policy: CachePolicy,
    *,
    steps: int,
    solver: str = "euler_maruyama",
    grid: str = "linear",
    batch: int = 16,
    num: int = 64,
    seed: int = 1000,
    progress: Progress = lambda done, total: None,
) -> PolicyCard:
    """Measure a policy and state it. The seed should be one that no tuning has seen: winners look too good."""

    make_plan(model.schedule, steps, solver, grid)
    measured = measure_policy(
        model,
        policy,
        steps=steps,
        solver=solver,
        grid=grid,
        batch=batch,
        num=num,
        seed=seed,
        progress=progress,
    )
    return PolicyCard(
        checkpoint=checkpoint if checkpoint in list_checkpoints() else str(Path(checkpoint).resolve()),
        digest=model.digest(),
        profile=profile_digest(model),
        dataset=model.dataset,
        policy=policy,
        solver=solver,
        grid=grid,
        steps=steps,
        batch=batch,
        device=model.device.type,
        measured=measured,
        valid=valid_range(measured),
        machine=machine(),
        versions={
            "e2crf": __version__,
            "policy_schema": str(POLICY_SCHEMA),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: `reasons` it failed for, `notes` on what was not compared."""

    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    measured: Measured | None

    @property
    def passed(self) -> bool:
        """Whether the card still holds."""
        return not self.reasons


def judge(card: PolicyCard, measured: Measured, device: str) -> Verdict:
    """Compare a re-measurement with a card's range. Speed counts only on the kind of device it was stated for."""
    valid, reasons, notes = card.valid, [], []
    found = measured.relative_l2.value
    if not found <= valid.relative_l2_max:
        reasons.append(
            f"quality: relative L2 to the uncached twin is {found:.4g}, at most {valid.relative_l2_max:.4g} is stated"
        )
    change, limit = measured.sliced_wasserstein_change, valid.sliced_wasserstein_change_max
    if change is None or limit is None:
        notes.append(f"data set {card.dataset!r} is not here: distances were not compared")
    elif not change.value <= limit:
        reasons.append(
            f"quality: sliced Wasserstein changed by {change.value:+.4g}, at most {limit:+.4g} is stated"
        )
    if not measured.speedup_flops >= valid.speedup_flops_min:
        reasons.append(
            f"speed: {measured.speedup_flops:.3g} times fewer operations than uncached, at least"
            f" {valid.speedup_flops_min:.3g} is stated"
        )
    if device != card.device:
        notes.append(f"wall clock is stated for {card.device}, this is {device}: not compared")
    elif not measured.speedup_wall.value >= valid.speedup_wall_min:
        reasons.append(
            f"speed: {measured.speedup_wall.value:.3g} times as fast as uncached, at least"
            f" {valid.speedup_wall_min:.3g} is stated"
        )
    return Verdict(tuple(reasons), tuple(notes), measured)


def check_card(
    card: PolicyCard, device: str = "auto", progress: Progress = lambda done, total: None
) -> Verdict:
    """Measure a card again on its own seed. Raises LabError when it cannot be run at all."""
    try:
        model = card.model(device)
    except CheckpointChanged as fault:
        return Verdict((str(fault),), (), None)
    measured = measure_policy(
        model,
        card.policy,
        **card.settings,
        num=card.measured.num,
        seed=card.measured.seed,
        progress=progress,
    )
    return judge(card, measured, model.device.type)


def usage(path: str) -> str:
    """The three lines that run a card, with their imports."""
    return (
        "from e2crf_core import Sampler, load_policy\n"
        f"card = load_policy({path!r})\n"
        "sampler = Sampler(card.model(), card.policy, **card.settings)\n"
        "series = sampler.sample(num=16, seed=0).series\n"
    )


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d0d7de;vertical-align:top}
th{width:45%;font-weight:600}pre{background:#f3f5f7;padding:.8rem;overflow:auto;border-radius:6px}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}.note{color:#57606a}
@media(prefers-color-scheme:dark){body{background:#0f1216;color:#e6e9ed}pre{background:#1b2027}
th,td{border-color:#333a42}.note{color:#9aa4af}}
"""


def to_html(card: PolicyCard, path: str = "card.json") -> str:
    """The card as one readable page without scripts."""
    m, valid = card.measured, card.valid

    def shown(figure: Interval | None, scale: float = 1.0, unit: str = "") -> str:
        if figure is None:
            return "not measured: the data set was not at hand"
        value, low, high = (scale * x for x in (figure.value, figure.low, figure.high))
        return f"{value:.4g}{unit} ({low:.4g} to {high:.4g})"

    floor = (
        "" if m.sliced_wasserstein_floor is None else f"; real series score {m.sliced_wasserstein_floor:.4g}"
    )
    limit = valid.sliced_wasserstein_change_max
    changed = {
        f.name: getattr(card.policy, f.name)
        for f in fields(card.policy)
        if f.name == "trigger" or card.policy.trigger in f.metadata["triggers"]
    }
    sections = [
        (
            "Deployment",
            {
                "Checkpoint": f"{card.checkpoint}, digest {card.digest[:16]}",
                "Data set": card.dataset,
                "Solver": f"{card.solver}, {card.grid} grid, {card.steps} network calls",
                "Batch": card.batch,
                "Device": card.device,
            },
        ),
        ("Policy", changed),
        (
            f"Measured on {m.num} samples, seed {m.seed}",
            {
                "Time of a sample": shown(m.seconds, 1e3, " ms"),
                "The same without a cache": shown(m.seconds_uncached, 1e3, " ms"),
                "Speed-up, wall clock": shown(m.speedup_wall),
                "Speed-up, operations": f"{m.speedup_flops:.4g}",
                "Tokens recomputed": f"{100 * m.token_share:.3g}%",
                "Relative L2 to the uncached twin": shown(m.relative_l2),
                "Sliced Wasserstein to held-out data": shown(m.sliced_wasserstein) + floor,
                "Change of it by the cache": shown(m.sliced_wasserstein_change),
            },
        ),
        (
            "Range in which this card holds",
            {
                "Relative L2 at most": f"{valid.relative_l2_max:.4g}",
                "Change of sliced Wasserstein at most": "not compared" if limit is None else f"{limit:+.4g}",
                "Speed-up, wall clock, at least": f"{valid.speedup_wall_min:.4g} (on {card.device})",
                "Speed-up, operations, at least": f"{valid.speedup_flops_min:.4g}",
            },
        ),
        ("Machine", {k: v for k, v in card.machine.items() if v is not None}),
        ("Versions", card.versions),
    ]
    body = "".join(
        f"<h2>{_escape(title)}</h2><table>"
        + "".join(f"<tr><th>{_escape(k)}</th><td>{_escape(v)}</td></tr>" for k, v in rows.items())
        + "</table>"
        for title, rows in sections
    )
    title = f"Policy card: {_escape(card.policy.trigger)} on {_escape(Path(card.checkpoint).name)}"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        "<p class='note'>Intervals of quality are 95% bootstrap intervals; those of speed are the whole range over"
        " batches that took turns with uncached ones in one process.</p>"
        f"{body}<h2>Use</h2><pre>{_escape(usage(path))}</pre><h2>Gate</h2>"
        f"<pre>python -m e2crf_core check --card {_escape(path)}</pre></body></html>\n"
    )


def _escape(value: object) -> str:
    return html.escape(str(value))


def save_card(card: PolicyCard, folder: Path) -> None:
    """Write card.json, card.html and policy.json into `folder`."""
    texts = {
        "card.json": card.to_json() + "\n",
        "card.html": to_html(card),
        "policy.json": card.policy.to_json() + "\n",
    }
    for name, text in texts.items():
        replace_file(folder / name, partial(_write, text))


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
