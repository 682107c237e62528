"""Implement `impute`, `forecast` and `score`: read CSV with gaps, write CSV with intervals or scores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2crf_core.errors import LabError

if TYPE_CHECKING:
    import numpy as np

    from e2crf_core.diffusion.score_model import ScoreModel
    from e2crf_core.questions.files import Recording
    from e2crf_core.sampling.config import SamplerConfig


def add(commands: Any) -> None:
    """Register the commands."""
    impute = commands.add_parser("impute", help="fill the missing values of a recording, with intervals")
    _shared(impute, "recording with empty cells: CSV, TSV, Parquet or NPY")
    impute.set_defaults(command=_impute)
    forecast = commands.add_parser("forecast", help="continue a recording, with intervals")
    _shared(forecast, "recording so far: CSV, TSV, Parquet or NPY")
    forecast.add_argument("--horizon", type=int, required=True, help="steps to forecast")
    forecast.set_defaults(command=_forecast)
    score = commands.add_parser("score", help="find what is improbable in a recording")
    _reading(score, "recording to judge: CSV, TSV, Parquet or NPY")
    score.add_argument(
        "--false-alarms", type=float, default=0.05, help="share of normal windows that may be flagged"
    )
    score.add_argument("--hop", type=int, help="steps between windows; by default one window after the other")
    score.add_argument(
        "--normal", type=Path, help="recording of normal operation to calibrate on, not the held-out windows"
    )
    score.set_defaults(command=_score)


def _shared(parser: argparse.ArgumentParser, file_help: str) -> None:
    _reading(parser, file_help)
    parser.add_argument("--num", type=int, default=64, help="draws for each window")
    parser.add_argument("--level", type=float, default=0.9, help="share of draws inside the interval")
    parser.add_argument("--steps", type=int, default=40, help="steps of the solver for each draw")
    parser.add_argument(
        "--policy",
        default="exact",
        help="cache: preset name or JSON file; by default the network runs every step",
    )


def _reading(parser: argparse.ArgumentParser, file_help: str) -> None:
    parser.add_argument("file", type=Path, help=file_help)
    parser.add_argument("--checkpoint", default="ecg", help="name of a checkpoint, or a folder")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--channels", help="columns of the file, in the order of the model's channels")
    parser.add_argument("--time", help="column of time stamps, or none; found by itself where it is plain")
    parser.add_argument("--missing", help="cells that mean a gap, separated by commas: n.a.,sensor off")


def _impute(arguments: argparse.Namespace) -> None:
    from e2crf_core.commands.terminal import ProgressLine, interruptible
    from e2crf_core.questions.recordings import fill, write_table

    model, recording, config, levels = _prepared(arguments)
    with interruptible() as stopped:
        filled = fill(
            model,
            recording.values,
            num=arguments.num,
            seed=arguments.seed,
            levels=levels,
            config=config,
            progress=ProgressLine("imputing"),
            cancelled=stopped,
        )
    name, rows = recording.rows()
    write_table(arguments.out, model.channels, rows, name, _columns(levels, filled.quantiles))
    holes = int((~filled.known).sum())
    print(json.dumps({"filled": holes, "windows": filled.windows, "out": str(arguments.out)}))


def _forecast(arguments: argparse.Namespace) -> None:
    import numpy as np

    from e2crf_core.commands.terminal import ProgressLine, interruptible
    from e2crf_core.questions.answers import forecast
    from e2crf_core.questions.recordings import write_table

    model, recording, config, levels = _prepared(arguments)
    with interruptible() as stopped:
        answer = forecast(
            model,
            recording.values,
            arguments.horizon,
            num=arguments.num,
            seed=arguments.seed,
            config=config,
            progress=ProgressLine("forecasting"),
            cancelled=stopped,
        )
    columns = _columns(levels, np.quantile(answer.draws[:, -arguments.horizon :], levels, axis=0))
    write_table(arguments.out, model.channels, range(1, arguments.horizon + 1), "step_ahead", columns)
    print(json.dumps({"horizon": arguments.horizon, "draws": arguments.num, "out": str(arguments.out)}))


def _columns(levels: tuple[float, float, float], quantiles: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of each channel: the median, then the ends of the interval."""
    low, median, high = (quantiles[i] for i in range(len(levels)))
    return {"": median, "low": low, "high": high}


def _score(arguments: argparse.Namespace) -> None:
    import dataclasses

    from e2crf_core.commands.terminal import ProgressLine, check_out_file, interruptible
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.questions.anomaly import Detector
    from e2crf_core.questions.recordings import write_columns
    from e2crf_core.questions.watching import heldout_windows, normal_windows, score_recording

    check_out_file(arguments.out)
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    recording = _recording(arguments, arguments.file, model)
    if arguments.normal is None:
        windows, blocks = heldout_windows(model)
    else:
        usual = _recording(arguments, arguments.normal, model)
        windows, blocks = normal_windows(model, usual.values, arguments.hop)
    with interruptible() as stopped:
        detector = Detector.fit(
            model,
            windows,
            blocks=blocks,
            seed=arguments.seed,
            progress=ProgressLine("calibrating"),
            cancelled=stopped,
        )
        threshold = detector.threshold(arguments.false_alarms)
        scores = score_recording(
            detector,
            recording.values,
            arguments.hop,
            progress=ProgressLine("scoring"),
            cancelled=stopped,
        )
    totals = scores.totals[scores.window]
    columns = [
        ("window", scores.starts[scores.window]),
        ("window_score", totals),
        ("flag", (totals > threshold.value).astype(int)),
        ("score", scores.per_step.sum(1)),
        *((f"{name}_score", part) for name, part in zip(model.channels, scores.per_step.T, strict=True)),
    ]
    name, rows = recording.rows()
    write_columns(arguments.out, rows, name, columns)
    flagged = scores.starts[scores.totals > threshold.value]
    summary = {
        "windows": len(scores.starts),
        "flagged": len(flagged),
        "threshold": threshold.value,
        "false_alarms": dataclasses.asdict(threshold.rate),
        "out": str(arguments.out),
    }
    print(json.dumps(summary))


def _prepared(
    arguments: argparse.Namespace,
) -> tuple[ScoreModel, Recording, SamplerConfig, tuple[float, float, float]]:
    """Return model, recording, sampler configuration, and levels; reject bad input before any work."""
    from dataclasses import replace

    from e2crf_core.caching.policy import PRESETS
    from e2crf_core.commands.sample import load_policy_argument
    from e2crf_core.commands.terminal import check_out_file
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.questions.answers import ASKING
    from e2crf_core.questions.recordings import interval_levels

    check_out_file(arguments.out)
    levels = interval_levels(arguments.level)
    if arguments.num < 2:
        raise LabError(f"num {arguments.num}", field="num", remedy="an interval takes at least 2 draws")
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    config = replace(ASKING, steps=arguments.steps, policy=load_policy_argument(arguments.policy, PRESETS))
    recording = _recording(arguments, arguments.file, model)
    return model, recording, config, levels


def _recording(arguments: argparse.Namespace, file: Path, model: ScoreModel) -> Recording:
    from e2crf_core.questions.files import read_recording

    return read_recording(
        file,
        model,
        channels=_names(arguments.channels),
        time=arguments.time,
        missing=_names(arguments.missing),
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()
