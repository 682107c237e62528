"""The command line: every command ends with exit code 0 and its result, or 2 and one line that says why not."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from e2crf_core.errors import LabError


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message} (see '{self.prog} --help')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], None] = arguments.command
        command(arguments)
    except LabError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except OSError as fault:
        print(f"error: {fault.strerror or fault}: {fault.filename or ''}".rstrip(": "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m e2crf_core", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    sample = commands.add_parser("sample", help="draw samples, with progress; prints one JSON line last")
    sample.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    sample.add_argument("--steps", type=int, default=1000, help="network calls of the solver")
    sample.add_argument("--num", type=int, default=64, help="number of samples")
    sample.add_argument("--policy", default="balanced", help="preset name or JSON file")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--solver", default="euler_maruyama")
    sample.add_argument("--grid", default="linear", help="time grid: linear, log_snr or karras")
    sample.add_argument("--batch", type=int, default=64, help="samples run together")
    sample.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sample.add_argument("--out", type=Path, required=True, help="npz to write, with `samples` in data units")
    sample.add_argument("--compare", action="store_true", help="also run uncached on the same noise")
    sample.set_defaults(command=_sample)

    evaluation = commands.add_parser(
        "eval", help="measure a table of solvers and policies against one another; resumable"
    )
    evaluation.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    evaluation.add_argument(
        "--configs", type=Path, required=True, help="JSON list of name, solver, grid, steps, policy"
    )
    evaluation.add_argument("--num", type=int, default=1000, help="samples of each run")
    evaluation.add_argument(
        "--repeats", type=int, default=5, help="runs of each row, with seeds of their own"
    )
    evaluation.add_argument("--seed", type=int, default=0, help="seed of the first repeat")
    evaluation.add_argument("--batch", type=int, default=64, help="samples run together")
    evaluation.add_argument("--directions", type=int, default=1000, help="projections of sliced Wasserstein")
    evaluation.add_argument("--device", default="auto", help="auto, cpu or cuda")
    evaluation.add_argument(
        "--out", type=Path, required=True, help="folder of the report; goes on with what it holds"
    )
    evaluation.set_defaults(command=_eval)

    info = commands.add_parser("info", help="list checkpoints, data sets, presets and devices")
    info.add_argument("--json", action="store_true")
    info.set_defaults(command=_info)
    return parser


def load_policy_argument(text: str) -> Any:
    """A preset by name, or a policy from a JSON file."""
    from e2crf_core.policy import PRESETS, CachePolicy

    if text in PRESETS:
        return PRESETS[text]
    path = Path(text)
    if path.suffix != ".json" and not path.is_file():
        raise LabError(f"unknown policy {text!r}: use one of {', '.join(PRESETS)}, or a JSON file")
    if not path.is_file():
        raise LabError(f"policy file {text} does not exist")
    if path.stat().st_size > 1_000_000:
        raise LabError(f"policy file {text} is larger than 1 MB: that is no policy")
    try:
        return CachePolicy.from_json(path.read_text())
    except UnicodeDecodeError:
        raise LabError(f"policy file {text} is not UTF-8 text") from None


def _check_out(path: Path) -> None:
    if path.is_dir():
        raise LabError(f"--out {path} is a folder: name a file")
    if not path.parent.is_dir():
        raise LabError(f"--out {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise LabError(f"--out {path}: the folder {path.parent} is not writable")


def _sample(arguments: argparse.Namespace) -> None:
    import numpy as np

    from e2crf_core.checkpoints import load_checkpoint, replace_file
    from e2crf_core.progress import ProgressLine
    from e2crf_core.run import compare, distance_to_heldout
    from e2crf_core.sampler import Sampler, check_request, warm_up

    policy = load_policy_argument(arguments.policy)
    check_request(arguments.num, arguments.seed)
    _check_out(arguments.out)
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    options = {name: getattr(arguments, name) for name in ("steps", "solver", "grid", "batch")}
    sampler = Sampler(model, policy, **options)
    warm_up(sampler, min(arguments.num, arguments.batch), arguments.seed)
    made = sampler.sample(arguments.num, arguments.seed, progress=ProgressLine("sampling"))
    report: dict[str, Any] = {
        "checkpoint": model.name,
        "device": str(model.device),
        "steps": arguments.steps,
        "num": arguments.num,
        "seed": arguments.seed,
        "policy": arguments.policy,
        "solver": arguments.solver,
        "seconds": made.seconds,
        "token_share": made.token_share,
        "flop_share": made.flop_share,
    }
    if arguments.compare:
        plain = Sampler(model, policy, **options, cached=False)
        warm_up(plain, min(arguments.num, arguments.batch), arguments.seed)
        twin = plain.sample(arguments.num, arguments.seed, progress=ProgressLine("uncached"))
        both = compare(made.series, twin.series, model, seconds=made.seconds, seconds_uncached=twin.seconds)
        names = (
            "sliced_wasserstein",
            "sliced_wasserstein_floor",
            "seconds_uncached",
            "speedup_wall",
            "sliced_wasserstein_uncached",
            "relative_l2",
        )
        report |= {name: getattr(both, name) for name in names}
    else:
        distance = distance_to_heldout(made.series, model)
        report |= {"sliced_wasserstein": distance.value, "sliced_wasserstein_floor": distance.floor}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, samples=made.series, channels=np.array(model.channels))

    replace_file(arguments.out, write)
    print(json.dumps(report))


def _eval(arguments: argparse.Namespace) -> None:
    from e2crf_core.evaluation import run_eval

    run_eval(arguments)


def _info(arguments: argparse.Namespace) -> None:
    import torch

    from e2crf_core.checkpoints import list_checkpoints, read_card
    from e2crf_core.data import list_datasets, load_dataset
    from e2crf_core.policy import PRESETS
    from e2crf_core.solvers import GRIDS, SOLVERS

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    listing: dict[str, dict[str, Any] | list[str]] = {
        "checkpoints": {name: read_card(name).get("dataset") for name in list_checkpoints()},
        "datasets": {name: load_dataset(name).title for name in list_datasets()},
        "presets": {name: policy.trigger for name, policy in PRESETS.items()},
        "solvers": list(SOLVERS),
        "grids": list(GRIDS),
        "devices": devices,
    }
    if arguments.json:
        print(json.dumps(listing))
        return
    for heading, entries in listing.items():
        print(heading)
        for entry in entries:
            note = f"  {entries[entry]}" if isinstance(entries, dict) else ""
            print(f"  {entry:<16}{note}")
