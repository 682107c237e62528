"""Implement `deploy`, `check`, and `export`: from a chosen policy to something that runs in production."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from e2crf_core.commands.sample import BACKEND_HELP
from e2crf_core.errors import LabError


def add(commands: Any) -> None:
    """Register the commands."""
    deploy = commands.add_parser("deploy", help="measure a policy on fresh noise and write its card")
    _add_config(deploy)
    deploy.add_argument("--study", type=Path, help="folder of a finished 'tune': take what it chose")
    deploy.add_argument("--batch", type=int, default=16, help="samples run together")
    deploy.add_argument("--backend", default="eager", help=BACKEND_HELP)
    deploy.add_argument("--num", type=int, default=64, help="samples to measure on")
    deploy.add_argument("--seed", type=int, default=1000, help="one that no tuning has seen")
    deploy.add_argument("--device", default="auto", help="auto, cpu or cuda")
    deploy.add_argument(
        "--out", type=Path, required=True, help="folder for card.json, card.html, policy.json"
    )
    deploy.set_defaults(command=_deploy)
    check = commands.add_parser("check", help="measure a card again; exit code 1 when it no longer holds")
    check.add_argument("--card", type=Path, required=True)
    check.add_argument("--device", default="auto", help="auto, cpu or cuda")
    check.set_defaults(command=_check)
    export = commands.add_parser(
        "export", help="write network and run table for programs without this package"
    )
    _add_config(export)
    export.add_argument("--card", type=Path, help="export what a policy card states")
    export.add_argument(
        "--format",
        default="torch",
        help="torch, onnx, aoti, cpp, or several, separated by commas",
    )
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    export.set_defaults(command=_export)


def _add_config(parser: Any) -> None:
    parser.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    parser.add_argument("--policy", default="balanced", help="preset name or JSON file")
    parser.add_argument("--steps", type=int, default=1000, help="steps of the solver")
    parser.add_argument("--solver", default="euler_maruyama")
    parser.add_argument("--grid", default="linear", help="time grid: linear, log_snr, karras or profile")


def _config(arguments: argparse.Namespace, model: Any, batch: int) -> Any:
    from e2crf_core.caching.presets import presets_of
    from e2crf_core.commands.sample import load_policy_argument
    from e2crf_core.sampling.config import SamplerConfig

    policy = load_policy_argument(arguments.policy, presets_of(model))
    return SamplerConfig(policy, arguments.steps, arguments.solver, arguments.grid, batch)


def _chosen(folder: Path, model: Any) -> Any:
    """Return the configuration that a study chose, if the study used this checkpoint."""
    from e2crf_core.io.json_files import read_json
    from e2crf_core.io.sets import read_set
    from e2crf_core.sampling.config import SamplerConfig

    path = folder / "study.json"
    try:
        study = read_set(folder, [path.name], lambda: read_json(path))
        number, measured_on = study["choice"]["number"], study["digest"]
        points = [study["reference"], *study["points"]]
        config = SamplerConfig.from_json(next(p for p in points if p["number"] == number)["setting"])
    except LabError as fault:
        raise LabError(fault.problem, field="study") from None
    except (ValueError, KeyError, TypeError, StopIteration):
        raise LabError(f"{path} is not a study that 'tune' has finished", field="study") from None
    if not model.has_digest(str(measured_on)):
        raise LabError(
            f"the study {folder} was made on another checkpoint",
            field="study",
            remedy="name that one with --checkpoint",
        )
    if config.policy is None:
        raise LabError(
            f"the study {folder} chose no cache ({config.describe()}): there is no policy to deploy",
            field="study",
            remedy="search with --triggers that leave out 'none', or use that solver",
        )
    return config


def _deploy(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from e2crf_core.commands.terminal import ProgressLine, check_out_folder, interruptible, warn
    from e2crf_core.deploy.html import save_card
    from e2crf_core.deploy.measure import cautions, make_card
    from e2crf_core.io.extras import require
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.sampling.calibrations import calibrate_for
    from e2crf_core.sampling.sampler import Sampler

    check_out_folder(arguments.out)
    require("tune", "the page of a policy card", "jinja2")
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    config = replace(_config(arguments, model, arguments.batch), backend=arguments.backend)
    if arguments.study is not None:
        config = replace(_chosen(arguments.study, model), batch=arguments.batch, backend=arguments.backend)
    sampler = Sampler.of(model, config)
    calibrate_for(model, config.policy, sampler.plan, ProgressLine("calibrating"))
    with interruptible() as stopped:
        card = make_card(
            arguments.checkpoint,
            model,
            sampler.config,
            num=arguments.num,
            seed=arguments.seed,
            progress=ProgressLine("measuring"),
            cancelled=stopped,
        )
    save_card(card, arguments.out)
    notes = cautions(card)
    for note in notes:
        warn(note)
    judgment = card.measured.judgment
    report = {
        "out": str(arguments.out / "card.json"),
        "setting": card.config.describe(),
        "backend": sampler.backend.name,
        "backend_reason": sampler.backend.reason,
        **_numbers(card.measured),
        "verdict": judgment and judgment.verdict,
        "warnings": notes,
    }
    print(json.dumps(report))


def _numbers(measured: Any) -> dict[str, float | None]:
    return {
        "speedup_wall": measured.speedup_wall.value,
        "speedup_flops": measured.speedup_flops,
        "relative_l2": measured.relative_l2.value,
        "change": measured.change and measured.change.value,
        "spectral_change_db": measured.spectral_change and measured.spectral_change.value,
    }


def _check(arguments: argparse.Namespace) -> int:
    from e2crf_core.commands.terminal import ProgressLine, interruptible
    from e2crf_core.deploy.card import load_policy
    from e2crf_core.deploy.check import check_card

    card = load_policy(arguments.card)
    with interruptible() as stopped:
        verdict = check_card(card, arguments.device, ProgressLine("measuring"), stopped)
    for note in verdict.notes:
        print(f"note: {note}", file=sys.stderr)
    if not verdict.passed:
        print(f"failed: {'; '.join(verdict.reasons)}", file=sys.stderr)
        return 1
    print(json.dumps({"card": str(arguments.card), "passed": True, **_numbers(verdict.measured)}))
    return 0


def _export(arguments: argparse.Namespace) -> None:
    from e2crf_core.commands.terminal import ProgressLine, check_out_folder
    from e2crf_core.deploy.card import load_policy
    from e2crf_core.deploy.export import check_exportable, export_config
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.network.forward import band_edges_of

    check_out_folder(arguments.out)
    formats = tuple(part.strip() for part in arguments.format.split(","))
    card = None if arguments.card is None else load_policy(arguments.card)
    model = load_checkpoint(arguments.checkpoint, "cpu") if card is None else card.model("cpu")
    config = _config(arguments, model, 64) if card is None else card.config
    check_exportable(config.policy, causal=bool(band_edges_of(model.network)))
    report = export_config(
        model, config, arguments.out, formats=formats, progress=ProgressLine("writing graphs of the network")
    )
    print(json.dumps({"out": str(arguments.out), **report}))
