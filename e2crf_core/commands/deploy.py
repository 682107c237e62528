"""`deploy`, `check` and `export`: from a chosen policy to something that runs, and is watched, in production."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError


def add(commands: Any) -> None:
    """Register the commands."""
    deploy = commands.add_parser("deploy", help="measure a policy on fresh noise and write its card")
    _add_setting(deploy)
    deploy.add_argument("--study", type=Path, help="folder of a finished 'tune': take what it chose")
    deploy.add_argument("--batch", type=int, default=16, help="samples run together")
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
    _add_setting(export)
    export.add_argument("--card", type=Path, help="export what a policy card states")
    export.add_argument("--format", default="torch", help="torch, onnx, or both separated by a comma")
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    export.set_defaults(command=_export)


def _add_setting(parser: Any) -> None:
    parser.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    parser.add_argument("--policy", default="balanced", help="preset name or JSON file")
    parser.add_argument("--steps", type=int, default=1000, help="network calls of the solver")
    parser.add_argument("--solver", default="euler_maruyama")
    parser.add_argument("--grid", default="linear", help="time grid: linear, log_snr, karras or profile")


def _chosen(folder: Path, digest: str) -> Any:
    """The setting that a study chose, if it was made on this checkpoint."""
    from e2crf_core.sampling.config import SamplerConfig

    path = folder / "study.json"
    try:
        study = json.loads(path.read_text())
        number = study["choice"]["number"]
        points = [study["reference"], *study["points"]]
        setting = SamplerConfig.from_json(next(p for p in points if p["number"] == number)["setting"])
        theirs = study["digest"]
    except OSError as fault:
        raise LabError(f"--study {folder}: {path} cannot be read: {fault.strerror}") from None
    except (ValueError, KeyError, TypeError, StopIteration) as fault:
        if isinstance(fault, LabError):
            raise
        raise LabError(f"--study {folder}: {path} is no study that 'tune' has finished") from None
    if theirs != digest:
        raise LabError(f"--study {folder} was made on another checkpoint: name it with --checkpoint")
    if setting.policy is None:
        raise LabError(
            f"--study {folder} chose no cache ({setting.describe()}): there is no policy to deploy; search with"
            " --triggers that leave out 'none', or use that solver"
        )
    return setting


def _deploy(arguments: argparse.Namespace) -> None:
    from e2crf_core.commands.sample import load_policy_argument
    from e2crf_core.deploy.policy_card import make_card, save_card
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.progress import ProgressLine
    from e2crf_core.sampling.config import SamplerConfig

    if arguments.out.exists() and not arguments.out.is_dir():
        raise LabError(f"--out {arguments.out} is a file: name a folder")
    policy = load_policy_argument(arguments.policy)
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    setting = SamplerConfig(policy, arguments.steps, arguments.solver, arguments.grid)
    if arguments.study is not None:
        setting = _chosen(arguments.study, model.digest())
    assert setting.policy is not None
    card = make_card(
        arguments.checkpoint,
        model,
        setting.policy,
        steps=setting.steps,
        solver=setting.solver,
        grid=setting.grid,
        batch=arguments.batch,
        num=arguments.num,
        seed=arguments.seed,
        progress=ProgressLine("measuring"),
    )
    save_card(card, arguments.out)
    measured = card.measured
    print(
        json.dumps(
            {
                "out": str(arguments.out / "card.json"),
                "setting": setting.describe(),
                "speedup_wall": measured.speedup_wall.value,
                "speedup_flops": measured.speedup_flops,
                "relative_l2": measured.relative_l2.value,
                "sliced_wasserstein_change": measured.sliced_wasserstein_change
                and measured.sliced_wasserstein_change.value,
            }
        )
    )


def _check(arguments: argparse.Namespace) -> int:
    from e2crf_core.deploy.policy_card import check_card, load_policy
    from e2crf_core.progress import ProgressLine

    card = load_policy(arguments.card)
    verdict = check_card(card, arguments.device, ProgressLine("measuring"))
    for note in verdict.notes:
        print(f"note: {note}", file=sys.stderr)
    if not verdict.passed:
        print(f"failed: {'; '.join(verdict.reasons)}", file=sys.stderr)
        return 1
    measured = verdict.measured
    assert measured is not None
    print(
        json.dumps(
            {
                "card": str(arguments.card),
                "passed": True,
                "relative_l2": measured.relative_l2.value,
                "speedup_wall": measured.speedup_wall.value,
                "speedup_flops": measured.speedup_flops,
            }
        )
    )
    return 0


def _export(arguments: argparse.Namespace) -> None:
    from e2crf_core.commands.sample import load_policy_argument
    from e2crf_core.deploy.export import check_exportable, export_policy
    from e2crf_core.deploy.policy_card import load_policy
    from e2crf_core.models.checkpoints import load_checkpoint

    if arguments.out.exists() and not arguments.out.is_dir():
        raise LabError(f"--out {arguments.out} is a file: name a folder")
    formats = tuple(part.strip() for part in arguments.format.split(","))
    plan: dict[str, Any] = {name: getattr(arguments, name) for name in ("steps", "solver", "grid")}
    if arguments.card is not None:
        card = load_policy(arguments.card)
        check_exportable(card.policy)
        model, policy = card.model("cpu"), card.policy
        plan = {name: getattr(card, name) for name in plan}
    else:
        policy = load_policy_argument(arguments.policy)
        check_exportable(policy)
        model = load_checkpoint(arguments.checkpoint, "cpu")
    report = export_policy(model, policy, arguments.out, formats=formats, **plan)
    print(json.dumps({"out": str(arguments.out), **report}))
