"""Does spectral localization pay? Nested bands on causal networks against solvers alone, at equal error.

    python -m benchmarks.localization --dry-run            what it would run, and how long that takes here
    python -m benchmarks.localization --sections cheap --seeds 2
    python -m benchmarks.localization --sections euler euler-full --data wind
    python -m benchmarks.localization --quick              wind and stocks, smaller

Sections, each a part of benchmarks/results/localization_cpu.json that replaces the former one:

- `cheap`: solvers alone with 4 to 20 calls, whole refreshes planned for an error, and nested bands, 40 cheap steps
  each. Rows share their noise, and errors are relative to the converged solution of their own network. The rows that
  are compared at equal error are then timed in turns, for each batch size.
- `euler`, `euler-full`: the paper's sampler, 1000 Euler-Maruyama steps, on the causal network and on the one with
  full attention: error to the uncached twin, the protocol's judgment, speed over uncached in one process.

Networks are names or folders; `{data}` stands for the data set. Finished parts are kept under --work together with
what they belong to (weights, data, sizes): a stopped study goes on, and more --seeds add to those that are done.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import localization_cost as cost
from benchmarks.localization_page import page
from benchmarks.localization_reading import comparisons, contenders, euler_speed, summary, with_seconds
from benchmarks.localization_rows import (
    CHEAP,
    EULER,
    IDENTITY,
    KINDS,
    NO_CACHE,
    PLANNED,
    SampledRow,
    euler_rows,
    rows_of,
)
from benchmarks.localization_work import long_rows, pilot, seconds_in_turns, seed_errors
from benchmarks.study import HERE, Parts
from e2crf_core import Dataset, Sampler, SamplerConfig, ScoreModel, load_checkpoint, predict
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.diffusion.score_model import Profile
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.io.json_files import read_json, write_json
from e2crf_core.io.provenance import Provenance, machine
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.training_data import training_data
from e2crf_core.network.forward import band_edges_of
from e2crf_core.sampling.calibration import calibrate
from e2crf_core.sampling.calibrations import error_model_of

RESULTS = HERE / "results" / "localization_cpu.json"
SETS = ("wind", "stocks", "ecg", "household")
SECTIONS = ("cheap", "euler", "euler-full")
ROUNDS = {1: 7, 16: 5, 48: 4}
Models = dict[str, ScoreModel]


def arguments_of(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--quick` sets what is not given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", help="data sets (all four; quick: wind and stocks)")
    parser.add_argument("--network", nargs="+", default=[], metavar="KIND=PLACE", help="causal=... full=...")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS)
    parser.add_argument("--seeds", type=int, help="5; quick: 1")
    parser.add_argument("--num", type=int, help="samples of each seed, run as one batch (48; quick: 32)")
    parser.add_argument(
        "--batch", type=int, nargs="+", default=list(ROUNDS), help="batch sizes that are timed"
    )
    parser.add_argument(
        "--pilot", type=int, help="samples of the pilot that chooses grids and late starts (8)"
    )
    parser.add_argument("--steps", type=int, help="Euler-Maruyama steps (1000)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: shows that everything runs")
    parser.add_argument("--dry-run", action="store_true", help="print the expected time and stop")
    parser.add_argument("--out", type=Path, help=f"results ({RESULTS.name}; quick: another)")
    parser.add_argument("--work", type=Path, default=Path("artifacts/localization"))
    options = parser.parse_args(argv)
    sizes = {"seeds": (5, 1), "num": (48, 32), "pilot": (8, 8), "steps": (EULER.steps, 200)}
    sizes |= {"data": (SETS, SETS[:2]), "sections": (SECTIONS, SECTIONS[:2])}
    sizes |= {"out": (RESULTS, RESULTS.with_stem("localization_quick"))}
    for name, (full, quick) in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    return options


def networks_of(data: str, places: list[str]) -> Models:
    """Load the causal network of a data set and, if there is one, that with full attention.

    Without `places`, both are looked for among the known checkpoints. Raises LabError if no causal one is there.
    """
    given = dict(place.split("=", 1) for place in places)
    if set(given) - {"causal", "full"}:
        raise LabError("a network is named causal=PLACE or full=PLACE", field="network")
    candidates = [place.replace("{data}", data) for place in given.values()]
    if not given:
        candidates = sorted({data, f"{data}-causal", f"{data}-full"} & set(list_checkpoints()))
    models: Models = {}
    for place in candidates:
        model = load_checkpoint(place, "cpu")
        models.setdefault("causal" if band_edges_of(model.network) else "full", model)
    if "causal" not in models:
        raise LabError(f"there is no causal network of {data}", field="network", remedy="name its folder")
    return models


class LocalizationStudy:
    """The study of one data set: its networks, and the parts that are finished."""

    def __init__(self, data: str, options: argparse.Namespace) -> None:
        self.name, self.options = data, options
        self.models = networks_of(data, options.network)
        self.data: Dataset = training_data(self.models["causal"])
        self.origin = {
            kind: Provenance.now(
                data=self.data.digest,
                checkpoint=model.digest(),
                seeds=range(options.seeds),
                batch=options.num,
            )
            for kind, model in self.models.items()
        }
        identity = {
            "rows": IDENTITY,
            "data": self.data.digest,
            "checkpoints": {kind: made.checkpoint for kind, made in self.origin.items()},
            "sizes": [options.num, options.pilot, options.steps, options.threads],
        }
        self.parts = Parts.open(options.work / f"{data}-{options.out.stem}.json", identity, data)
        self.parts.total = self.expected_parts()
        for kind, model in self.models.items():
            if not model.profile.levels:
                stored = self.parts.get(f"profile {kind}", lambda p, m=model: asdict(calibrate(m)))
                profile = Profile(tuple(stored["levels"]), tuple(stored["weights"]))
                self.models[kind] = replace(model, profile=profile)

    def expected_parts(self) -> int:
        """Return how many parts an undisturbed run would measure."""
        kinds, sections = len(self.models), self.options.sections
        cheap = kinds * (1 + self.options.seeds) + len(self.options.batch) if "cheap" in sections else 0
        return cheap + sum(section in sections for section in SECTIONS[1:])

    def cheap(self) -> dict[str, Any]:
        """Measure errors with few calls, compare them, and time the rows that are compared."""
        options, rows, errors, pilots = self.options, {}, {}, {}
        for kind, model in self.models.items():
            error_model_of(
                model, Sampler.of(model, SamplerConfig(None, **CHEAP)).plan, ProgressLine("calibrating")
            )
            pilots[kind] = self.parts.get(f"pilot {kind}", lambda p, m=model: pilot(m, options.pilot, p))
            rows |= {row.name: row for row in rows_of(model, kind, pilots[kind])}
        for kind, model in self.models.items():
            own = [row for row in rows.values() if row.network == kind]
            for seed in range(options.seeds):
                part = self.parts.get(
                    f"errors {kind} {seed}",
                    lambda p, m=model, o=own, s=seed: seed_errors(m, self.data, o, options.num, s, p),
                )
                for row in own:
                    merge(errors.setdefault(row.name, describe(row, model)), part[row.name])
        found = comparisons(errors)
        compared = [rows[name] for name in contenders(found)]
        seconds = {}
        for batch in options.batch:
            rounds = 3 if options.quick else ROUNDS.get(batch, 5)
            seconds[str(batch)] = self.parts.get(
                f"seconds {batch}: {'; '.join(row.name for row in compared)}",
                lambda p, b=batch, r=rounds: seconds_in_turns(self.models, compared, b, r, p),
            )
        return {
            "seeds": list(range(options.seeds)),
            "num": options.num,
            "pilot": pilots,
            "rows": summary(errors),
            "comparisons": with_seconds(found, seconds),
            "seconds": seconds,
        }

    def euler(self, kind: str) -> dict[str, Any]:
        """Measure the paper's sampler on one of the networks."""
        model, options = self.models[kind], self.options
        if kind == "causal":
            plan = Sampler.of(model, replace(EULER, steps=options.steps)).plan
            error_model_of(model, plan, ProgressLine("calibrating"))
        made = self.parts.get(
            f"euler {kind}",
            lambda p: long_rows(model, self.data, euler_rows(kind, options.steps), options.num, 0, p),
        )
        return {
            "steps": options.steps,
            "num": options.num,
            "rows": made,
            "speed": euler_speed(made, NO_CACHE),
        }


def describe(row: SampledRow, model: ScoreModel) -> dict[str, Any]:
    """Return what is stored of a row beside its errors; the predicted error where a plan made it."""
    stored = {"network": row.network, "method": row.method, "config": row.config.to_json()}
    if row.method in PLANNED:
        stored["predicted"] = predict(model, row.config.policy, **CHEAP).error
    return stored


def merge(row: dict[str, Any], part: dict[str, Any]) -> None:
    """Add one seed's errors to a row."""
    row["cost"] = part["cost"]
    for kind in KINDS:
        row[kind] = [*row.get(kind, []), *part[kind]]
    row["distances"] = [*row.get("distances", []), part["distances"]]


def write(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Write JSON and Markdown."""
    write_json(options.out, results)
    text = page(results)
    replace_file(options.out.with_suffix(".md"), lambda path: path.write_text(text, encoding="utf-8"))


def run(study: LocalizationStudy, section: str, results: dict[str, Any]) -> None:
    """Run a section of a data set and write the results."""
    stored = results["data"].get(study.name, {})
    origin = {kind: made.to_json() for kind, made in study.origin.items()}
    before = stored.get("provenance", {})
    if any(before.get(kind, {}).get("checkpoint") != made["checkpoint"] for kind, made in origin.items()):
        stored = {}
    stored |= {"provenance": origin, "machine": machine()}
    if section == "cheap":
        stored |= study.cheap()
    elif (kind := "causal" if section == "euler" else "full") in study.models:
        stored["euler"] = {**stored.get("euler", {}), kind: study.euler(kind)}
    results["data"][study.name] = stored
    write(study.options, results)


def main() -> None:
    """Run the command."""
    options = arguments_of()
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"schema": 2, "quick": options.quick, "data": {}}
    if options.out.is_file():
        before = read_json(options.out)
        results = before if before.get("schema") == 2 else results
    try:
        cost.announce({data: networks_of(data, options.network) for data in options.data}, options)
        if not options.dry_run:
            studies = [LocalizationStudy(data, options) for data in options.data]
            for section in options.sections:
                for study in studies:
                    run(study, section, results)
            print(f"written: {options.out} and {options.out.with_suffix('.md').name}")
    except LabError as fault:
        raise SystemExit(f"error: {fault}") from None


if __name__ == "__main__":
    main()
