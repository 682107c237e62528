"""Implement `impute` and `forecast`: read CSV with gaps, write CSV with medians and intervals."""

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


def _shared(parser: argparse.ArgumentParser, file_help: str) -> None:
    parser.add_argument("file", type=Path, help=file_help)
    parser.add_argument("--checkpoint", default="ecg", help="name of a checkpoint, or a folder")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--num", type=int, default=64, help="draws for each window")
    parser.add_argument("--level", type=float, default=0.9, help="share of draws inside the interval")
    parser.add_argument("--steps", type=int, default=40, help="network calls for each draw")
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


def _prepared(
    arguments: argparse.Namespace,
) -> tuple[ScoreModel, Recording, SamplerConfig, tuple[float, float, float]]:
    """Return model, recording, sampler configuration, and levels; reject bad input before any work."""
    from dataclasses import replace

    from e2crf_core.commands.terminal import check_out_file
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.questions.answers import ASKING
    from e2crf_core.questions.files import read_recording
    from e2crf_core.questions.recordings import interval_levels

    check_out_file(arguments.out)
    levels = interval_levels(arguments.level)
    if arguments.num < 2:
        raise LabError(f"num {arguments.num}", field="num", remedy="an interval takes at least 2 draws")
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    recording = read_recording(
        arguments.file,
        model,
        channels=_names(arguments.channels),
        time=arguments.time,
        missing=_names(arguments.missing),
    )
    return model, recording, replace(ASKING, steps=arguments.steps), levels


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()
