"""Export a policy for other programs: the score network as graphs, and the run as a table.

A policy that depends only on the clock refreshes at known steps: everything, or on a spectrally causal network the
lowest tokens up to the edge of a band. A reused output is a fixed mix of a token's last outputs. A whole run is
therefore a table: how many tokens to compute, how to mix, and the coefficients of E3 and E8, which an exponential
integrator has for each coordinate. The network is one graph for each number of tokens that the table asks for.
`ExportedSampler` runs it in thirty lines over arrays, to use or to copy.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.triggers import schedules
from e2crf_core.deploy.native import compile_package, load_package, write_program
from e2crf_core.diffusion.noise import noise_stream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import detokenize
from e2crf_core.e2crf import recompute
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.json_files import read_json
from e2crf_core.network.backends import require_compiler
from e2crf_core.network.forward import band_edges_of
from e2crf_core.network.graphs import ScoreGraph, for_graphs, traced
from e2crf_core.network.onnx import require_onnx, write_onnx
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, check_request
from e2crf_core.sampling.segments import AffineRows, decisions

EXPORT_SCHEMA = 3
READABLE = (1, 2, EXPORT_SCHEMA)
"""Up to schema 2, `called` stood for `rows`, and `mix` was the same for all tokens; schema 1 had no `offset`."""
NETWORKS = {"torch": ".pt2", "onnx": ".onnx", "aoti": ".aoti.pt2"}
"""The suffix of each runtime of `ExportedSampler`."""
PROGRAM = ("run.bin", "sampler.cpp")
"""What the format `cpp` adds to the network of `onnx`: the run's table, and a program that samples with both."""
FORMATS = (*NETWORKS, "cpp")
TOLERANCE = 1e-3
MEMORY = 3


def check_exportable(policy: CachePolicy | None, *, causal: bool) -> None:
    """Raise LabError with every reason why a policy needs decisions that a table cannot hold.

    A `causal` network computes the lowest bands alone. With full attention, tokens recomputed alone would read kept
    keys and values, so that the policy must refresh everything.
    """
    if policy is None:
        raise LabError("this configuration has no policy to export", field="policy")
    faults, rule = [], policy.rule
    # With full attention, nested plans refresh everything.
    able = schedules() if causal else (*schedules(whole=True), "nested")
    if policy.trigger not in able:
        alone = policy.trigger in schedules()
        why = "recomputes some tokens alone under full attention" if alone else "decides on the data"
        faults.append(f"trigger {policy.trigger} {why} (use {', '.join(able)})")
    elif rule.verdict is None:
        off = {"adapt": False, "probe_share": 0.0, "tau_safe": 0.0, "tau_warn": 0.0}
        faults += [
            f"{name} {getattr(policy, name)} (use {value})"
            for name, value in (off if causal else {**off, "k_low": -1}).items()
            if getattr(policy, name) != value
        ]
    if faults:
        raise LabError("this policy cannot be exported: " + "; ".join(faults), field="policy")


class _Impulses:
    """A network whose call j returns 1 in sample j and 0 elsewhere, which shows how outputs are mixed."""

    layers, heads, width, prepare_flops = 0, 1, 1, 0

    def __init__(self, edges: tuple[int, ...]) -> None:
        self.calls, self.edges = 0, edges
        self.visible = torch.ones(edges[-1:] * 2, dtype=torch.bool)

    def condition(self, log_snr: Tensor) -> Tensor:
        return log_snr

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        prepared = torch.zeros_like(u[..., :1])
        if self.calls < len(prepared):
            prepared[self.calls] = 1.0
        self.calls += 1
        return prepared

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        return prepared

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fail if called: there are no layers."""
        raise NotImplementedError

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """Fail if called: there are no layers."""
        raise NotImplementedError

    def head(self, feature: Tensor) -> Tensor:
        return feature.expand(*feature.shape[:-1], 2)


def mixing_table(sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """Return how many tokens each call computes (steps,) int32, and the output mix (steps, MEMORY, n) float64.

    A step computes the lowest tokens, or none. Entry (i, m, k) of the mix weighs token k's m-th last output. It is
    measured by running the cache itself on impulses. Raises LabError like `check_exportable`.
    """
    model, policy = sampler.model, sampler.policy
    edges = band_edges_of(model.network)
    check_exportable(policy, causal=bool(edges))
    assert policy is not None
    with torch.inference_mode():
        reasons = [chosen for chosen, _ in decisions(policy, *sampler.begin(1, 0))]
        rows = np.array([int((chosen > 0).sum()) for chosen in reasons], np.int32)
        # One coordinate of a channel shows all: weights depend on the clock alone.
        small = {name: getattr(model, name)[:, :2].double().cpu() for name in ("mu", "v", "mask")}
        probe = Sampler(
            replace(model, network=_Impulses(edges), channels=model.channels[:1], **small), policy
        )
        probe.plan = sampler.plan
        problem, state = probe.begin(max(1, int((rows > 0).sum())), 0)
        table = np.zeros((len(rows), MEMORY, model.n))
        last, call, tokens = np.full((MEMORY, model.n), -1), 0, np.arange(model.n)
        for i, m in enumerate(rows):
            state = replace(state, step=i)
            if m:
                state = replace(state, cache=recompute(policy, problem, state, reasons[i])[0])
                last[:, :m] = np.stack([np.full(m, call), *last[:-1, :m]])
                call += 1
            if state.cache is not None:  # before a late start, F is 0
                mix = reused_output(policy, problem, state.cache, i)[..., 0].numpy()
                table[i] = np.where(last < 0, 0.0, mix[last, tokens])
    return rows, table


def export_config(
    model: ScoreModel,
    config: SamplerConfig,
    folder: Path,
    *,
    formats: tuple[str, ...] = ("torch",),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write network and table to `folder`, run them against eager, and return the largest differences.

    `progress(done, total)` counts graphs of the network. Raises LabError if the policy needs decisions, a format is
    unknown or not installed, or the exported run differs from eager by more than TOLERANCE.
    """
    check_formats(formats)
    check_exportable(config.policy, causal=bool(band_edges_of(model.network)))
    if "cpp" in formats and not model.half_spectrum:
        raise LabError(
            "the C++ program knows only tokens of the half spectrum, which this model does not use"
        )
    needed = {"onnx" if name == "cpp" else name for name in formats}
    runtimes = tuple(name for name in NETWORKS if name in needed)
    model = model.to("cpu", torch.float32)
    sampler = Sampler.of(model, replace(config, backend="eager"))
    rows, mix = mixing_table(sampler)
    lengths = sorted({int(m) for m in rows if m})
    about = _about(sampler, rows)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Write and run beside the folder first, so that a failed or interrupted export never appears in it.
    with TemporaryDirectory(prefix=".export-", dir=folder.parent) as place:
        work = Path(place)
        tables = _tables(sampler, rows, mix)
        np.savez_compressed(work / "run.npz", **tables)
        if "cpp" in formats:
            write_program(tables, model.length, work)
        _write_networks(model, runtimes, lengths, work, progress)
        (work / "export.json").write_text(json.dumps(about, indent=1) + "\n")
        differences = {name: verify(work, sampler, name) for name in runtimes}
        for name, worst in differences.items():
            if not max(worst.values()) <= TOLERANCE:
                raise LabError(
                    f"the exported {name} run differs from eager by {max(worst.values()):.3g}: nothing was written"
                )
        folder.mkdir(exist_ok=True)
        for old in filter(_is_ours, list(folder.iterdir())):
            old.unlink()
        # export.json comes last: a folder without it holds no export.
        for name in sorted((path.name for path in work.iterdir()), key="export.json".__eq__):
            os.replace(work / name, folder / name)
    return {name: about[name] for name in ("calls", "token_share", "steps")} | {"differences": differences}


def _about(sampler: Sampler, rows: np.ndarray) -> dict[str, Any]:
    """Return what export.json says of a run whose calls compute `rows` (steps,) tokens."""
    model, config = sampler.model, sampler.config
    assert config.policy is not None
    return {
        "schema": EXPORT_SCHEMA,
        "kind": "e2crf-export",
        "checkpoint": model.name,
        "digest": model.digest(),
        "policy": asdict(config.policy),
        "solver": config.solver,
        "grid": config.grid,
        "steps": config.steps,
        "noise": config.noise,
        "calls": int((rows > 0).sum()),
        "token_share": float(rows.mean() / model.n),
        "length": model.length,
        "channels": list(model.channels),
        "inputs": {"u": ["batch", *model.mu.shape], "log_snr": []},
        "torch": torch.__version__,
    }


def _is_ours(path: Path) -> bool:
    """Return whether a file in the folder of an export is part of an export."""
    graph = "|".join(map(re.escape, NETWORKS.values()))
    return path.name in ("export.json", "run.npz", *PROGRAM) or bool(
        re.fullmatch(rf"network(-\d+)?({graph})", path.name)
    )


def check_formats(formats: tuple[str, ...]) -> None:
    """Raise LabError for a format that is unknown or not installed."""
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not formats:
        raise LabError(
            f"unknown export format {', '.join(unknown) or '(none)'}: use {', '.join(FORMATS)}",
            field="format",
        )
    if "onnx" in formats or "cpp" in formats:
        require_onnx("export to ONNX")
    if "aoti" in formats:
        require_compiler("an AOTInductor package")


def network_file(runtime: str, m: int, n: int) -> str:
    """Return the name of the graph that computes the lowest m of n tokens."""
    return f"network{'' if m == n else f'-{m}'}{NETWORKS[runtime]}"


def _write_networks(
    model: ScoreModel, runtimes: tuple[str, ...], lengths: Sequence[int], folder: Path, progress: Progress
) -> None:
    """Write the network as one graph for each of `runtimes`, and each number of tokens in `lengths`."""
    network = for_graphs(model.network)
    for done, m in enumerate(lengths, 1):
        graph = ScoreGraph(network, m).eval()
        try:
            program = traced(graph, torch.zeros(2, *model.mu.shape))
        except Exception as fault:  # torch has many kinds for what a graph cannot hold
            reason = str(fault).strip().partition("\n")[0][:200]
            raise LabError(
                f"the network of {model.name} cannot be exported, because torch cannot write it as one graph: {reason}",
                field="checkpoint",
            ) from None
        paths = {runtime: folder / network_file(runtime, m, model.n) for runtime in runtimes}
        if "torch" in paths:
            with paths["torch"].open("wb") as file:
                torch.export.save(program, file)
        if "onnx" in paths:
            write_onnx(program, paths["onnx"])
        if "aoti" in paths:
            compile_package(program, paths["aoti"])
        progress(done, len(lengths))


def _tables(sampler: Sampler, rows_of_calls: np.ndarray, mix: np.ndarray) -> dict[str, Any]:
    """Return a run's plain arrays, without network and noise."""
    model = sampler.model
    problem, _ = sampler.begin(1, 0)
    rows, first = AffineRows.of(problem), sampler.plan.rows[0]
    a, s = model.schedule.a(first.t), model.schedule.s(first.t)
    # An exponential integrator has weights for each coordinate, and an offset in all rows but the last.
    each = (1, 1) if rows.offset is None else model.mu.shape
    offset = np.zeros((len(rows.mix), *each))
    if rows.offset is not None:
        offset[:-1] = rows.offset
    return {
        "levels": np.array(problem.levels, np.float32),
        "rows": rows_of_calls,
        "mix": mix.astype(np.float32),
        "state_mix": np.array([[np.broadcast_to(w, each) for w in mix] for mix in rows.mix]),
        "offset": offset,
        "kept_mix": np.array(rows.kept),
        "sigma": np.array(rows.sigma),
        **{name: getattr(problem, name).numpy() for name in ("c_in", "u0")},
        "c_skip": rows.skip.astype(np.float32),
        "c_out": rows.out.astype(np.float32),
        "d0": rows.shift.astype(np.float32),
        "start_mean": (a * model.mu * model.mask).numpy(),
        "start_spread": ((a * a * model.v + s * s).sqrt() * model.mask).numpy(),
        "mask": model.mask.numpy(),
        "mean": model.mean,
        "std": model.std,
    }


class ExportedSampler:
    """A runner for an export: arrays, keyed noise, and graphs of the network, without policy code."""

    def __init__(self, folder: str | Path, runtime: str = "torch") -> None:
        folder = Path(folder)
        if not (folder / "export.json").is_file():
            raise LabError(f"{folder} holds no export")
        self.about = read_json(folder / "export.json")
        if self.about.get("schema") not in READABLE:
            raise LabError(
                f"export {folder} has schema {self.about.get('schema')!r}, this reads {EXPORT_SCHEMA}"
            )
        tables = read_npz(folder / "run.npz")
        if "rows" not in tables:
            tables = {"offset": np.zeros(len(tables["levels"])), **tables}
            tables["rows"] = tables.pop("called") * len(tables["mask"])
            tables["mix"] = tables["mix"][:, :, None]
        self.tables = tables
        n, lengths = len(tables["mask"]), sorted({int(m) for m in tables["rows"] if m})
        self.networks = {m: _network(folder, runtime, m, n) for m in lengths}

    def sample(self, num: int = 16, seed: int = 0) -> np.ndarray:
        """Return series (num, N, M) in data units: those of the eager sampler, up to rounding."""
        check_request(num, seed)
        t = self.tables
        mask = torch.as_tensor(t["mask"])
        noise = noise_stream(self.about.get("noise", "numpy"), seed, num, mask, dtype=torch.float32)
        z = t["start_mean"] + t["start_spread"] * noise.initial().numpy()
        outputs = np.zeros((MEMORY, *z.shape), np.float32)  # the last outputs of each token, newest first
        base, past = np.zeros_like(z), [np.zeros_like(z)] * 2
        for i, level in enumerate(t["levels"]):
            if m := int(t["rows"][i]):
                fresh = self.networks[m](t["c_in"][i] * z + t["u0"][i], level)
                outputs[:, :, :m] = np.stack([fresh, *outputs[:-1, :, :m]])
            output = (t["mix"][i][:, None, :, None] * outputs).sum(0)
            denoised = t["c_skip"][i] * z + t["c_out"][i] * output + t["d0"][i]
            terms = (z, base, denoised, *past)
            z = t["offset"][i] + sum(w * x for w, x in zip(t["state_mix"][i], terms, strict=True))
            base = sum(w * x for w, x in zip(t["kept_mix"][i], terms, strict=True))
            if t["sigma"][i]:
                z = z + t["sigma"][i] * noise.at(i).numpy()
            z, past = z.astype(np.float32), [denoised, past[0]]
        series = detokenize(z, self.about["length"])
        return (series * t["std"] + t["mean"]).astype(np.float32)


def _network(folder: Path, runtime: str, m: int, n: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if runtime not in NETWORKS:
        raise LabError(f"unknown runtime {runtime!r}: use {', '.join(NETWORKS)}")
    path = folder / (name := network_file(runtime, m, n))
    if not path.is_file():
        raise LabError(f"export {folder} has no {name}: export that format too")
    if runtime == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda u, level: session.run(
            None, {"u": u.astype(np.float32), "log_snr": np.asarray(level, np.float32)}
        )[0]
    if runtime == "aoti":
        module: Any = load_package(path)
    else:
        with path.open("rb") as file:
            module = torch.export.load(file).module()

    def call(u: np.ndarray, level: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(u.astype(np.float32)), torch.tensor(float(level))).numpy()

    return call


def verify(folder: Path, sampler: Sampler, runtime: str, *, num: int = 3, seed: int = 11) -> dict[str, float]:
    """Return the largest differences from eager: the networks on noise at three levels, and whole runs.

    Both in the units of standardized data.
    """
    model, exported = sampler.model, ExportedSampler(folder, runtime)
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    with torch.inference_mode():
        for level, batch in ((-3.0, 1), (0.0, num), (3.0, 5)):
            u = torch.randn(batch, *model.mu.shape, generator=generator) * model.mask
            for m, network in exported.networks.items():
                eager = ScoreGraph(model.network, m)(u, torch.tensor(level)).numpy()
                worst = max(worst, float(np.abs(network(u.numpy(), np.asarray(level)) - eager).max()))
    series = sampler.sample(num, seed).series
    run = float((np.abs(exported.sample(num, seed) - series) / model.std).max())
    return {"network": worst, "run": run}
