"""`sample`: draw series with a policy, and say what it took."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError


def add(commands: Any) -> None:
    """Register the command."""
    sample = commands.add_parser("sample", help="draw samples, with progress; prints one JSON line last")
    sample.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    sample.add_argument("--steps", type=int, default=1000, help="network calls of the solver")
    sample.add_argument("--num", type=int, default=64, help="number of samples")
    sample.add_argument("--policy", default="balanced", help="preset name or JSON file")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--solver", default="euler_maruyama", help="see info; ddim:0.5 is DDIM with eta 0.5")
    sample.add_argument("--grid", default="linear", help="time grid: linear, log_snr, karras or profile")
    sample.add_argument("--batch", type=int, default=64, help="samples run together")
    sample.add_argument("--device", default="auto", help="auto, cpu or cuda")
    sample.add_argument("--out", type=Path, required=True, help="npz to write, with `samples` in data units")
    sample.add_argument("--compare", action="store_true", help="also run uncached on the same noise")
    sample.set_defaults(command=run)


def load_policy_argument(text: str) -> Any:
    """A preset by name, or a policy from a JSON file."""
    from e2crf_core.caching.policy import PRESETS, CachePolicy

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


def check_out(path: Path) -> None:
    """Raise LabError unless a file can be written there, before any work is done."""
    if path.is_dir():
        raise LabError(f"--out {path} is a folder: name a file")
    if not path.parent.is_dir():
        raise LabError(f"--out {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise LabError(f"--out {path}: the folder {path.parent} is not writable")


def run(arguments: argparse.Namespace) -> None:
    """Draw the samples, write them whole, print the report."""
    import numpy as np

    from e2crf_core.io.files import replace_file
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.progress import ProgressLine
    from e2crf_core.runs.comparison import compare, distance_to_heldout
    from e2crf_core.sampling.sampler import Sampler, check_request, warm_up

    policy = load_policy_argument(arguments.policy)
    check_request(arguments.num, arguments.seed)
    check_out(arguments.out)
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
        report["sliced_wasserstein"] = distance.value if distance else None
        report["sliced_wasserstein_floor"] = distance.floor if distance else None

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, samples=made.series, channels=np.array(model.channels))

    replace_file(arguments.out, write)
    print(json.dumps(report))
