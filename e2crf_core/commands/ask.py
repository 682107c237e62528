"""Implement `impute` and `forecast`: read CSV with gaps, write CSV with medians and intervals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from e2crf_core.errors import LabError

if TYPE_CHECKING:
    import numpy as np

    from e2crf_core.data.loading import Loaded
    from e2crf_core.diffusion.score_model import ScoreModel


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

    model, loaded, config = _prepared(arguments)
    values, stamps = _evenly(loaded)
    with interruptible() as stopped:
        filled = fill(
            model,
            values,
            num=arguments.num,
            seed=arguments.seed,
            level=arguments.level,
            config=config,
            progress=ProgressLine("imputing"),
            cancelled=stopped,
        )
    name, rows = _rows(loaded, stamps, len(values))
    write_table(
        arguments.out, model.channels, rows, name, {"": filled.median, "low": filled.low, "high": filled.high}
    )
    holes = int((~filled.known).sum())
    print(json.dumps({"filled": holes, "windows": filled.windows, "out": str(arguments.out)}))


def _forecast(arguments: argparse.Namespace) -> None:
    import numpy as np

    from e2crf_core.commands.terminal import ProgressLine, interruptible
    from e2crf_core.questions.answers import forecast
    from e2crf_core.questions.recordings import write_table

    model, loaded, config = _prepared(arguments)
    values, _ = _evenly(loaded)
    with interruptible() as stopped:
        answer = forecast(
            model,
            values,
            arguments.horizon,
            num=arguments.num,
            seed=arguments.seed,
            config=config,
            progress=ProgressLine("forecasting"),
            cancelled=stopped,
        )
    tail = (1 - arguments.level) / 2
    ahead = answer.draws[:, -arguments.horizon :]
    columns = {
        "": np.median(ahead, axis=0),
        "low": np.quantile(ahead, tail, axis=0),
        "high": np.quantile(ahead, 1 - tail, axis=0),
    }
    write_table(arguments.out, model.channels, range(1, arguments.horizon + 1), "step_ahead", columns)
    print(json.dumps({"horizon": arguments.horizon, "draws": arguments.num, "out": str(arguments.out)}))


def _prepared(arguments: argparse.Namespace) -> tuple[ScoreModel, Loaded, Any]:
    """Return model, recording, and sampler configuration; reject bad input before any work."""
    from dataclasses import replace

    from e2crf_core.commands.terminal import check_out_file
    from e2crf_core.data.loading import load
    from e2crf_core.data.plan import Reading
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.questions.answers import ASKING

    check_out_file(arguments.out)
    if not 0 < arguments.level < 1:
        raise LabError(f"level {arguments.level}", field="level", remedy="choose a share between 0 and 1")
    if arguments.num < 2:
        raise LabError(f"num {arguments.num}", field="num", remedy="an interval takes at least 2 draws")
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    channels = _names(arguments.channels) or _own_channels(arguments.file, model)
    reading = Reading(channels=channels, time=arguments.time, missing=_names(arguments.missing))
    loaded = load(arguments.file, reading, model.length)
    if loaded.questions:
        raise loaded.questions[0]
    if len(loaded.names) != len(model.channels):
        raise LabError(
            f"{arguments.file.name} has {len(loaded.names)} channels ({', '.join(loaded.names)})",
            field="channels",
            remedy=f"name the columns for {', '.join(model.channels)}, in this order",
        )
    if len(loaded.table.groups) > 1:
        raise LabError(
            f"{arguments.file.name} holds several recordings", field="file", remedy="ask about one at a time"
        )
    config = replace(ASKING, steps=arguments.steps)
    return model, loaded, config


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _own_channels(file: Path, model: ScoreModel) -> tuple[str, ...]:
    """Return the model's channel names if the file has a column for each; else none, to read all columns."""
    from e2crf_core.data.series_files import ReadySeries, open_file

    source = open_file(file)
    if isinstance(source, ReadySeries) or not set(model.channels) <= set(source.names):
        return ()
    return tuple(model.channels)


def _evenly(loaded: Loaded) -> tuple[np.ndarray, np.ndarray | None]:
    """Return values (T, M) and time stamps (T,), with missing values in each row that the file omits."""
    from e2crf_core.questions.recordings import on_grid

    table = loaded.table
    if table.stamps is None:
        return table.values, None
    return on_grid(table.values, table.stamps, table.regular.step)


def _rows(loaded: Loaded, stamps: np.ndarray | None, count: int) -> tuple[str, list[Any]]:
    """Return name and cells of an answer's first column: the recording's time stamps, or row numbers."""
    import numpy as np

    if stamps is None:
        return "step", list(range(count))
    unit: Literal["us", "s"] = "us" if (stamps % 1_000_000).any() else "s"
    times = stamps.astype("datetime64[us]")
    return loaded.time or "time", list(np.datetime_as_string(times, unit=unit))
