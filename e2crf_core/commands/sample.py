"""Implement `sample`: draw series with a policy and report the cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POLICY_BYTES = 1_000_000
BACKEND_HELP = "eager, compiled or onnxruntime; eager-bf16, compiled-bf16, onnxruntime-int8; or auto"


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
    sample.add_argument("--backend", default="eager", help=BACKEND_HELP)
    sample.add_argument(
        "--noise", default="numpy", help="numpy, or counter, which is the same on every device"
    )
    sample.add_argument("--out", type=Path, required=True, help="npz to write, with `samples` in data units")
    sample.add_argument("--compare", action="store_true", help="also run uncached on the same noise")
    sample.set_defaults(command=run)


def load_policy_argument(text: str, presets: Mapping[str, Any]) -> Any:
    """Find a preset by name, or read a policy from a JSON file. Raises LabError."""
    from e2crf_core.caching.policy import CachePolicy, find_preset
    from e2crf_core.io.json_files import read_json

    path = Path(text)
    if text in presets or (path.suffix != ".json" and not path.is_file()):
        return find_preset(text, presets)
    return CachePolicy.from_json(json.dumps(read_json(path, limit=POLICY_BYTES)))


def run(arguments: argparse.Namespace) -> None:
    """Draw and save the samples, then evaluate them and print the report."""
    from dataclasses import replace

    import numpy as np

    from e2crf_core.caching.presets import presets_of
    from e2crf_core.commands.terminal import ProgressLine, check_out_file, interruptible
    from e2crf_core.io.files import replace_file
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.sampling.calibrations import calibrate_for
    from e2crf_core.sampling.config import SamplerConfig
    from e2crf_core.sampling.sampler import Sampler, check_request, warm_up

    check_request(arguments.num, arguments.seed)
    check_out_file(arguments.out)
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    policy = load_policy_argument(arguments.policy, presets_of(model))
    plan = (arguments.steps, arguments.solver, arguments.grid, arguments.batch)
    config = SamplerConfig(policy, *plan, arguments.backend, arguments.noise)
    backend = Sampler.of(model, config).backend
    config = replace(config, backend=backend.name)

    with interruptible() as stopped:

        def draw(config: SamplerConfig, label: str) -> Any:
            sampler = Sampler.of(model, config)
            calibrate_for(model, config.policy, sampler.plan, ProgressLine("calibrating"))
            warm_up(sampler, min(arguments.num, arguments.batch), arguments.seed)
            return sampler.sample(
                arguments.num, arguments.seed, progress=ProgressLine(label), cancelled=stopped
            )

        made = draw(config, "sampling")
        # Save the samples before any later work can fail.
        channels = np.array(model.channels)
        replace_file(arguments.out, lambda path: _write(path, samples=made.series, channels=channels))
        twin = draw(config.twin, "uncached") if arguments.compare else None
    report: dict[str, Any] = {
        "checkpoint": model.name,
        "device": str(model.device),
        "steps": arguments.steps,
        "num": arguments.num,
        "seed": arguments.seed,
        "policy": arguments.policy,
        "solver": arguments.solver,
        "noise": arguments.noise,
        "backend": backend.name,
        "backend_reason": backend.reason,
        "seconds": made.seconds,
        "token_share": made.token_share,
        "flop_share": made.flop_share,
        **_judged(made, twin, model),
    }
    print(json.dumps(report))


def _write(path: Path, **arrays: Any) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _judged(made: Any, twin: Any, model: Any) -> dict[str, Any]:
    """Return the quality of the samples, and compare them with their uncached twins, if any."""
    from e2crf_core.runs.comparison import compare, distance_to_heldout

    if twin is None:
        distance = distance_to_heldout(made.series, model)
        return {
            "sliced_wasserstein": distance.value if distance else None,
            "sliced_wasserstein_floor": distance.floor if distance else None,
        }
    seconds = {"seconds": made.seconds, "seconds_uncached": twin.seconds}
    both = compare(made.series, twin.series, model, **seconds)
    names = (
        "sliced_wasserstein",
        "sliced_wasserstein_floor",
        "seconds_uncached",
        "speedup_wall",
        "sliced_wasserstein_uncached",
        "relative_l2",
    )
    return {name: getattr(both, name) for name in names}
