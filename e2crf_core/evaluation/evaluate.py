"""Evaluation: a table of (solver, grid, steps, policy) against one another on common noise.

Every finished (configuration, repeat) is written whole as a shard, so an evaluation that was killed goes on
where it stopped. Repeats differ in their seed only; within one, all configurations start from the same noise and
run one after the other in one process, in an order that turns round from repeat to repeat, so that a machine
that slows down does not favor any of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.caching.policy import POLICY_SCHEMA, PRESETS, CachePolicy, PolicyError
from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.progress import ProgressLine
from e2crf_core.quality.distances import Metric, relative_l2, standard_metrics
from e2crf_core.quality.intervals import (
    Floor,
    StableSize,
    measure,
    overlap_blocks,
    real_floor,
    seed_spread,
    stable_size,
)
from e2crf_core.quality.learned_scores import FEWEST, NAMES, learned_scores, share_progress
from e2crf_core.sampling.sampler import Sampler, check_request, synchronize

SCHEMA = 1
PRIMARY = "sliced_wasserstein_time"
FEWEST_SEEDS = 3
STABLE_WITHIN = 0.05
"""A figure is called stable where its 95% half-width is at most this share of it."""
_STABLE_DIRECTIONS, _STABLE_MOST, _STABLE_RESAMPLES = 200, 4096, 40
MAX_CONFIG_BYTES = 1_000_000
_KEYS = ("name", "solver", "grid", "steps", "policy")


class ConfigError(LabError):
    """A configuration file that cannot run; `faults` lists everything that is wrong with it."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"configurations {where}: " + "; ".join(faults))


@dataclass(frozen=True)
class Config:
    """One row of an evaluation: `steps` network calls of a solver on a grid, cached by `policy` (None: uncached)."""

    name: str
    solver: str
    grid: str
    steps: int
    policy: CachePolicy | None

    @property
    def plan(self) -> tuple[str, str, int]:
        """What an uncached twin shares with this row."""
        return self.solver, self.grid, self.steps

    def sampler(self, model: ScoreModel, batch: int) -> Sampler:
        """The sampler this row measures."""
        return Sampler(
            model,
            self.policy,
            steps=self.steps,
            solver=self.solver,
            grid=self.grid,
            batch=batch,
            cached=self.policy is not None,
        )

    def describe(self) -> dict[str, Any]:
        """What identifies the row, as plain JSON values."""
        return {
            "name": self.name,
            "solver": self.solver,
            "grid": self.grid,
            "steps": self.steps,
            "policy": None if self.policy is None else asdict(self.policy),
        }


def parse_configs(text: str, where: str = "file") -> tuple[Config, ...]:
    """Read a JSON list of {"name", "solver", "grid", "steps", "policy"}.

    `policy` is a preset's name, an object with fields of CachePolicy, or null for an uncached run. Raises
    ConfigError that lists every fault.
    """
    try:
        stored = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as fault:
        raise ConfigError(where, [f"not JSON: {fault}"]) from None
    if not isinstance(stored, list) or not stored:
        raise ConfigError(where, ['a list of {"name", "solver", "grid", "steps", "policy"} is expected'])
    faults: list[str] = []
    configs: list[Config] = []
    names: set[str] = set()
    for index, entry in enumerate(stored):
        found, config = _parse_entry(entry)
        label = f"entry {index + 1}"
        if config is not None and config.name in names:
            found.append(f"the name {config.name!r} is used twice")
        if config is not None:
            names.add(config.name)
            configs.append(config)
        faults += [f"{label}: {fault}" for fault in found]
    if faults:
        raise ConfigError(where, faults)
    return tuple(configs)


def _parse_entry(entry: object) -> tuple[list[str], Config | None]:
    """Faults of one entry, and what it says if it can be read."""
    if not isinstance(entry, dict):
        return [f"an object is expected, not {type(entry).__name__}"], None
    faults = [f"unknown key {key!r} (known: {', '.join(_KEYS)})" for key in entry if key not in _KEYS]
    faults += [f"lacks {key!r}" for key in _KEYS if key not in entry]
    name, solver, grid, steps = (entry.get(key) for key in _KEYS[:4])
    if "name" in entry and (not isinstance(name, str) or not name.strip() or len(name) > 80):
        faults.append(f"name {name!r} must be a text of 1 to 80 characters")
    if {"solver", "grid", "steps"} <= entry.keys():
        if isinstance(solver, str) and isinstance(grid, str) and type(steps) is int:
            try:
                make_plan(VP(), steps, solver, grid)
            except LabError as fault:
                faults.append(str(fault))
        else:
            faults.append("solver and grid must be texts, and steps a whole number")
    policy, wrong = _parse_policy(entry.get("policy"))
    faults += wrong
    if faults:
        return faults, None
    return [], Config(str(name), str(solver), str(grid), int(entry["steps"]), policy)


def _parse_policy(value: object) -> tuple[CachePolicy | None, list[str]]:
    if value is None:
        return None, []
    if isinstance(value, str):
        if value in PRESETS:
            return PRESETS[value], []
        return None, [f"policy {value!r} is no preset: use one of {', '.join(PRESETS)}, an object, or null"]
    if not isinstance(value, dict):
        return None, ["policy must be a preset's name, an object, or null"]
    try:
        return CachePolicy.from_json(json.dumps({"schema": POLICY_SCHEMA, **value})), []
    except PolicyError as fault:
        return None, [f"policy: {one}" for one in fault.faults]


def load_configs(path: Path) -> tuple[Config, ...]:
    """`parse_configs` of a file. Raises LabError when it cannot be read."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise LabError(f"configurations {path}: larger than 1 MB")
        text = path.read_text()
    except UnicodeDecodeError:
        raise LabError(f"configurations {path}: not UTF-8 text") from None
    except OSError as fault:
        raise LabError(f"configurations {path}: {fault.strerror}") from None
    return parse_configs(text, str(path))


@dataclass(frozen=True)
class Task:
    """What is evaluated on what. Repeat k runs `num` samples with seed `seed + k`, `batch` of them together."""

    model: ScoreModel
    dataset: Dataset
    configs: tuple[Config, ...]
    num: int
    repeats: int
    seed: int = 0
    batch: int = 64
    directions: int = 1000

    def __post_init__(self) -> None:
        """Refuse what would fail after hours."""
        check_request(self.num, self.seed)
        if self.num < 2:
            raise LabError(f"num {self.num}: a distance between sets needs at least 2 samples")
        if not 1 <= self.repeats <= 1000:
            raise LabError(f"repeats {self.repeats}: must lie between 1 and 1000")
        if self.batch < 1 or self.directions < 1:
            raise LabError(f"batch {self.batch} and directions {self.directions} must be at least 1")
        if len(self.dataset.heldout) < 8:
            raise LabError(
                f"data set {self.dataset.name!r} has {len(self.dataset.heldout)} held-out windows: at least 8 are"
                " needed to measure quality against"
            )

    def fingerprint(self) -> dict[str, Any]:
        """What shards of this evaluation must agree in. More repeats may be added to old ones."""
        rows = json.dumps([c.describe() for c in self.configs], sort_keys=True)
        return {
            "schema": SCHEMA,
            "configs": hashlib.sha256(rows.encode()).hexdigest(),
            "checkpoint": self.model.digest(),
            "num": self.num,
            "seed": self.seed,
            "batch": self.batch,
            "device": str(self.model.device),
        }


@dataclass(frozen=True)
class Shard:
    """One finished run: series (num, N, M) in data units and its cost. `session` names the process that ran it."""

    series: np.ndarray
    seconds: float
    token_share: float
    flop_share: float
    flops: float
    session: str
    machine: dict[str, Any]


def machine() -> dict[str, Any]:
    """What timings depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "system": platform.platform(terse=True),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def claim(out: Path, task: Task) -> None:
    """Make `out` this task's folder. Raises LabError when it holds shards of another evaluation."""
    path, mine = out / "evaluation.json", task.fingerprint()
    if path.is_file():
        try:
            theirs = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError):
            theirs = {}
        differ = [key for key in mine if theirs.get(key) != mine[key]]
        if differ:
            raise LabError(
                f"{out} holds an evaluation that differs in {', '.join(differ)}: name another --out, or delete it"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise LabError(f"{out} is not empty and holds no evaluation: name another --out")
    replace_file(path, lambda p: p.write_text(json.dumps(mine, indent=1) + "\n"))


def shard_path(out: Path, index: int, repeat: int) -> Path:
    return out / "shards" / f"{index:03d}-r{repeat:03d}.npz"


def _write_shard(path: Path, shard: Shard) -> None:
    meta = {key: value for key, value in vars(shard).items() if key != "series"}

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.savez(file, series=shard.series, meta=np.array(json.dumps(meta)))

    replace_file(path, write)


def read_shard(path: Path) -> Shard:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Shard(series=stored["series"], **json.loads(str(stored["meta"])))
    except Exception as fault:  # whatever is wrong with a shard, the way out is the same
        raise LabError(f"shard {path} is damaged ({type(fault).__name__}): delete it and run again") from None


Report = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """No progress."""


def run_shards(task: Task, out: Path, report: Report = _silent) -> None:
    """Run what is missing in `out`. `report(done, total)` counts estimated seconds of this call."""
    claim(out, task)
    order = list(range(len(task.configs)))
    missing = [
        (index, repeat)
        for repeat in range(task.repeats)
        for index in (order if repeat % 2 == 0 else order[::-1])
        if not shard_path(out, index, repeat).is_file()
    ]
    session, about = secrets.token_hex(4), machine()
    cost: dict[int, float] = {}
    warm: set[int] = set()
    spent = 0.0
    for place, (index, repeat) in enumerate(missing):
        config = task.configs[index]
        sampler = config.sampler(task.model, task.batch)
        if index not in warm:
            _warm(sampler, min(task.num, task.batch), task.seed)
            warm.add(index)
        ahead = _expected(task, cost, missing[place:])

        made = sampler.sample(
            task.num,
            task.seed + repeat,
            progress=_progress(report, spent, _expected(task, cost, [(index, 0)]), ahead),
        )
        shard = Shard(
            series=made.series,
            seconds=made.seconds,
            token_share=made.token_share,
            flop_share=made.flop_share,
            flops=made.flop_share * sampler.full_flops(task.num) / task.num,
            session=session,
            machine=about,
        )
        _write_shard(shard_path(out, index, repeat), shard)
        cost[index] = made.seconds
        spent += made.seconds
    if missing:
        report(int(spent) + 1, int(spent) + 1)


def _progress(report: Report, spent: float, one: float, ahead: float) -> Report:
    """Steps of one run, of `one` second(s), as a part of all `ahead`."""
    return lambda done, total: report(int(spent + one * done / total), int(spent + ahead) + 1)


def _expected(task: Task, cost: dict[int, float], work: Sequence[tuple[int, int]]) -> float:
    """Seconds that `work` will take, rows not run yet at the mean cost of a step so far."""
    steps = sum(task.configs[index].steps for index in cost)
    per_step = sum(cost.values()) / steps if steps else 1e-3 * task.num
    return sum(cost.get(index, per_step * task.configs[index].steps) for index, _ in work)


def _warm(sampler: Sampler, num: int, seed: int) -> None:
    """A few steps that are not counted, so that first-call costs are nobody's."""
    with torch.inference_mode():
        problem, state = sampler.begin(num, seed)
        for _ in range(min(8, sampler.plan.steps)):
            state, _ = sampler.step(problem, state, sampler.policy)
    synchronize(sampler.model.device)


@dataclass(frozen=True)
class Estimate:
    """A figure over repeats: `value` their mean, `low`..`high` its 95% interval, `values` one for each repeat."""

    value: float
    low: float
    high: float
    values: tuple[float, ...]

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals share a point: then the two must not be ranked."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Timing:
    """Median over repeats, with the whole range seen."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Timing:
        """From one figure per repeat."""
        return Timing(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class Row:
    """What was measured of one configuration.

    `seconds` is for `num` samples, `flops` for one. `speedup` is against the table's reference, `speedup_twin`
    and `relative_l2` against the uncached run with the same solver, grid and steps, where the table has one;
    both are ratios within a repeat. `metrics` are distances to held-out data by name.
    """

    config: Config
    seconds: Timing
    token_share: float
    flop_share: float
    flops: float
    metrics: dict[str, Estimate]
    speedup: Timing
    speedup_twin: Timing | None
    relative_l2: Estimate | None
    sessions: int

    @property
    def quality(self) -> Estimate:
        """The primary distance."""
        return self.metrics[PRIMARY]


def front_of(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Names of the points (cost, distance) that no other point beats or equals in both and betters in one."""
    return {
        name
        for name, (cost, distance) in points.items()
        if not any(c <= cost and d <= distance and (c, d) != (cost, distance) for c, d in points.values())
    }


@dataclass(frozen=True)
class Evaluation:
    """A finished table. `reference` is the name of the row that speed and quality are told against.

    `stable` says by metric how many samples of the reference make a figure stable (see `STABLE_WITHIN`).
    """

    checkpoint: str
    dataset: str
    digest: str
    num: int
    repeats: int
    seed: int
    batch: int
    heldout: int
    machine: dict[str, Any]
    reference: str
    interval: str
    titles: dict[str, str]
    units: dict[str, str]
    floors: dict[str, Floor]
    rows: tuple[Row, ...]
    stable: dict[str, StableSize] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of a configuration."""
        return next(row for row in self.rows if row.config.name == name)

    def pairs(self, metric: str = PRIMARY) -> list[tuple[str, str]]:
        """(better, worse) for every pair of rows whose intervals do not overlap."""
        told = []
        for a, b in combinations(self.rows, 2):
            first, second = a.metrics[metric], b.metrics[metric]
            if not first.overlaps(second):
                better, worse = (a, b) if first.value < second.value else (b, a)
                told.append((better.config.name, worse.config.name))
        return told

    def front(self, cost: Callable[[Row], float]) -> set[str]:
        """Names of the rows that no other row beats in both cost and mean quality."""
        return front_of({row.config.name: (cost(row), row.quality.value) for row in self.rows})

    def not_worse(self, row: Row, than: Row, metrics: Sequence[str] = (PRIMARY,)) -> bool:
        """Whether no interval of `row` lies wholly above that of `than`."""
        return all(row.metrics[m].low <= than.metrics[m].high for m in metrics)

    def fastest(self, than: Row, cached: bool, metrics: Sequence[str] = (PRIMARY,)) -> Row | None:
        """The fastest cached or uncached row that is not worse than another."""
        able = [
            row
            for row in self.rows
            if (row.config.policy is not None) == cached and self.not_worse(row, than, metrics)
        ]
        return min(able, key=lambda row: row.seconds.median, default=None)


def reference_row(configs: Sequence[Config]) -> Config:
    """The uncached configuration with most network calls; without any, the first row."""
    plain = [config for config in configs if config.policy is None]
    return max(plain, key=lambda config: config.steps) if plain else configs[0]


def summarize(task: Task, out: Path, report: Report = _silent, learned: Report | None = None) -> Evaluation:
    """Measure all shards of `out`: distances for every repeat, then estimates over repeats.

    With `learned`, a progress of its own, also the learned scores, which take seconds to minutes a row.
    """
    data = task.dataset
    held, train = data.standardize(data.x[data.heldout]), data.standardize(data.x[data.train])
    metrics = standard_metrics(len(data.channels), directions=task.directions)
    floors = {m.name: real_floor(held, task.num, m, train=train) for m in metrics}
    shards = [
        [read_shard(shard_path(out, index, repeat)) for repeat in range(task.repeats)]
        for index in range(len(task.configs))
    ]
    scaled = [[data.standardize(shard.series) for shard in row] for row in shards]
    reference = reference_row(task.configs)
    reference_seconds = [s.seconds for s in shards[task.configs.index(reference)]]
    twins = {config.plan: index for index, config in enumerate(task.configs) if config.policy is None}
    blocks = heldout_blocks(data)
    rows = []
    for index, config in enumerate(task.configs):
        seconds = [s.seconds for s in shards[index]]
        twin = twins.get(config.plan) if config.policy is not None else None
        speedup_twin = distance = None
        if twin is not None:
            speedup_twin = Timing.of(
                [s.seconds / mine for s, mine in zip(shards[twin], seconds, strict=True)]
            )
            distance = _over_seeds(
                [relative_l2(a, b) for a, b in zip(scaled[index], scaled[twin], strict=True)], None
            )
        measured = {}
        for metric in metrics:
            measured[metric.name] = _estimate(metric, scaled[index], held, blocks)
            report(index * len(metrics) + len(measured), len(task.configs) * len(metrics))
        rows.append(
            Row(
                config=config,
                seconds=Timing.of(seconds),
                token_share=float(np.mean([s.token_share for s in shards[index]])),
                flop_share=float(np.mean([s.flop_share for s in shards[index]])),
                flops=float(np.mean([s.flops for s in shards[index]])),
                metrics=measured,
                speedup=Timing.of([r / mine for r, mine in zip(reference_seconds, seconds, strict=True)]),
                speedup_twin=speedup_twin,
                relative_l2=distance,
                sessions=len({s.session for s in shards[index]}),
            )
        )
    titles, units = {m.name: m.title for m in metrics}, {m.name: m.unit for m in metrics}
    if learned is not None:
        scores = learned_scores(scaled, held, train, blocks=blocks, progress=share_progress(learned))
        floors |= scores.floors
        titles |= {name: title for name, (title, _) in NAMES.items()}
        units |= {name: unit for name, (_, unit) in NAMES.items()}
        for row, sets in zip(rows, scores.figures, strict=True):
            for name in NAMES:
                first = sets[0][name]
                half = first.value - first.low, first.high - first.value
                row.metrics[name] = _over_seeds([figures[name].value for figures in sets], half)
    pool = np.concatenate(scaled[task.configs.index(reference)])[:_STABLE_MOST]
    cheap = standard_metrics(len(data.channels), directions=min(task.directions, _STABLE_DIRECTIONS))
    stable = {
        m.name: stable_size(pool, held, m, within=STABLE_WITHIN, resamples=_STABLE_RESAMPLES) for m in cheap
    }
    return Evaluation(
        checkpoint=task.model.name,
        dataset=data.name,
        digest=task.model.digest(),
        num=task.num,
        repeats=task.repeats,
        seed=task.seed,
        batch=task.batch,
        heldout=len(held),
        machine={**shards[0][0].machine, "device": str(task.model.device)},
        reference=reference.name,
        interval="seeds" if task.repeats >= FEWEST_SEEDS else "bootstrap",
        titles=titles,
        units=units,
        floors=floors,
        rows=tuple(rows),
        stable=stable,
    )


def heldout_blocks(data: Dataset) -> np.ndarray:
    """(m,) labels of held-out windows that overlap, for a bootstrap that resamples them together."""
    span = float(data.card.get("split", {}).get("span", data.length))
    return overlap_blocks(data.group[data.heldout], data.start[data.heldout], span)


def _over_seeds(values: list[float], half: tuple[float, float] | None) -> Estimate:
    """Student's interval of the mean where there are seeds enough, else the one given."""
    if len(values) >= FEWEST_SEEDS:
        spread = seed_spread(values)
        return Estimate(spread.mean, spread.low, spread.high, tuple(values))
    mean = float(np.mean(values))
    below, above = half or (mean - min(values), max(values) - mean)
    return Estimate(mean, mean - below, mean + above, tuple(values))


def _estimate(metric: Metric, sets: list[np.ndarray], held: np.ndarray, blocks: np.ndarray) -> Estimate:
    """Over seeds; with too few of them, the bootstrap interval of the first repeat stands in."""
    values = [metric(x, held) for x in sets]
    if len(values) >= FEWEST_SEEDS:
        return _over_seeds(values, None)
    figure = measure(sets[0], held, metric, resamples=100, floor_repeats=1, blocks=blocks)
    return _over_seeds(values, (figure.value - figure.low, figure.high - figure.value))


def evaluate(task: Task, out: Path, *, quiet: bool = False, learned: bool = False) -> Evaluation:
    """Run what is missing, measure everything, write the results. Progress goes to stderr unless `quiet`.

    With `learned` also the learned scores; raises LabError when there will be too few samples for them.
    """
    from e2crf_core.evaluation.report import write_results

    if learned and task.num < FEWEST:
        raise LabError(f"num {task.num}: learned scores need at least {FEWEST} samples")

    def line(label: str) -> Report:
        return _silent if quiet else ProgressLine(label)

    run_shards(task, out, line(f"evaluating {task.model.name}, seconds"))
    scores = line("learned scores, per mille") if learned else None
    evaluation = summarize(task, out, line("measuring"), scores)
    write_results(evaluation, out)
    return evaluation
