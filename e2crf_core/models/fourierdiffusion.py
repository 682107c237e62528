"""Checkpoints of the public FourierDiffusion library (Crabbe et al. 2024, arXiv:2402.05933), without that library.

Its network sees a series of N steps as N positions: the real parts of frequencies 0..floor(N/2), then the
imaginary parts of 1..ceil(N/2)-1, each with M channels and standardized. Its noise has the scale G: 1 at
frequency 0 and, N even, at N/2, else 1/sqrt 2. So z = x / G carries white noise, as E1 and E2 ask, and one
position is one token here. Tokens are put in order of frequency, so that low tokens are low frequencies for
every policy.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as nnf

from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz, reason
from e2crf_core.io.files import replace_file
from e2crf_core.models.checkpoints import SCHEMA, choose_device
from e2crf_core.network.forward import plain_forward

KIND = "fourierdiffusion"
LIMIT_BYTES = 1 << 30
_SCHEDULER = "fdiff.schedulers.sde.VPScheduler"
_STORAGES = ("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage")
_ALLOWED = {
    "torch._utils._rebuild_tensor_v2",
    "collections.OrderedDict",
    _SCHEDULER,
    *(f"torch.{storage}" for storage in _STORAGES),
}
# Opcodes that fetch a callable by a name that is not written in the opcode itself.
_INDIRECT = {"STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "OBJ"}


class VPScheduler:
    """Stands in for the library's scheduler when a checkpoint is read: it only takes attributes."""


@dataclass(frozen=True)
class PeerConfig:
    """Sizes of the library's transformer and its noise: `length` N positions of `channels` M."""

    length: int
    channels: int
    width: int
    layers: int
    heads: int
    hidden: int
    beta_min: float
    beta_max: float
    eps: float
    scaled: bool

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built or cached."""
        sizes = (self.length, self.channels, self.width, self.layers, self.heads, self.hidden)
        if min(sizes) < 1 or max(sizes) > 1 << 20 or self.width % self.heads or self.width % 2:
            raise LabError(f"these network sizes cannot be built: {self}")
        if self.width < self.channels:
            raise LabError(f"a network of width {self.width} cannot carry {self.channels} channels")
        if not 0 < self.beta_min < self.beta_max or not 0 < self.eps < 1:
            raise LabError(f"these noise levels are out of range: {self}")


def noise_scale(length: int, *, scaled: bool) -> np.ndarray:
    """(N,) G of every position in the library's layout."""
    scale = np.full(length, np.sqrt(0.5) if scaled else 1.0)
    scale[0] = 1.0
    if length % 2 == 0:
        scale[length // 2] = 1.0
    return scale


def frequency_order(length: int) -> np.ndarray:
    """(N,) library positions in order of frequency: Re 0, Re 1, Im 1, Re 2, Im 2, ..."""
    half = length // 2
    frequency = np.concatenate([np.arange(half + 1), np.arange(1, (length + 1) // 2)])
    return np.argsort(frequency, kind="stable")


def to_positions(series: np.ndarray) -> np.ndarray:
    """Series (..., N, M) -> the library's layout (..., N, M), before standardization."""
    length = series.shape[-2]
    spectrum = np.fft.rfft(series, axis=-2, norm="ortho")
    return np.concatenate([spectrum.real, spectrum.imag[..., 1 : (length + 1) // 2, :]], axis=-2)


def from_positions(positions: np.ndarray) -> np.ndarray:
    """The library's layout (..., N, M), not standardized -> series (..., N, M)."""
    length = positions.shape[-2]
    half = length // 2 + 1
    imaginary = np.zeros_like(positions[..., :half, :])
    imaginary[..., 1 : (length + 1) // 2, :] = positions[..., half:, :]
    return np.fft.irfft(positions[..., :half, :] + 1j * imaginary, n=length, axis=-2, norm="ortho")


class PeerBlock(nn.Module):
    """One post-norm layer: norm(h + attention), then norm(h + ReLU MLP)."""

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)


class PeerNetwork(nn.Module):
    """The library's transformer in the pieces of forward.TokenNetwork: u = c_in z in, F of E3 out.

    The library predicts a score S(x, t); F = (s G / a)(u + G S / c_in) is what the Wiener denoiser of
    unit-variance positions cannot predict. Both ends of the network depend on the time, so `prepare` puts
    [h_0, (s G / a) u, s G² / (a c_in)] side by side, and the stream carries the last two to where S is known.
    F takes the place of the first M coordinates of C, so that a kept feature gives a kept output.
    """

    per_step_modules = ("time", "lift")
    position: Tensor
    frequencies: Tensor
    scale: Tensor

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        self.config = config
        self.lift = nn.Linear(config.channels, config.width)
        self.unlift = nn.Linear(config.width, config.channels)
        self.time = nn.Linear(config.width, config.width)
        self.blocks = nn.ModuleList(PeerBlock(config) for _ in range(config.layers))
        order = frequency_order(config.length)
        scale = noise_scale(config.length, scaled=config.scaled)[order]
        self.register_buffer("position", torch.zeros(config.length, config.width))
        self.register_buffer("frequencies", torch.zeros(config.width // 2))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32)[:, None], persistent=False)
        self.schedule = VP(config.beta_min, config.beta_max, config.eps)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.config.layers

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.config.heads

    @property
    def width(self) -> int:
        """Width d of features, keys and values."""
        return self.config.width

    @property
    def prepare_flops(self) -> int:
        """Operations of preparing one sample's input: the map of every position to the width."""
        return 2 * self.config.length * self.config.channels * self.config.width

    def condition(self, log_snr: Tensor) -> Tensor:
        """Nothing in the layers depends on the noise level."""
        return log_snr

    def embed_time(self, t: Tensor) -> Tensor:
        """Times S in [0, 1] -> (*S, d): random Fourier features, then a linear map."""
        angle = t[..., None] * self.frequencies * 2 * np.pi
        return self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """Inputs u (B, N, M) at noise levels () or (B,) -> the stream before the first layer (B, N, d + M + 1)."""
        schedule = self.schedule
        # E2 solved for t, as in sde.VP.t_at.
        total = torch.log1p(torch.exp(-2.0 * log_snr.double()))
        slope = schedule.beta_max - schedule.beta_min
        t = 2.0 * total / ((schedule.beta_min**2 + 2.0 * slope * total).sqrt() + schedule.beta_min)
        return self._prepare(u, t.to(u.dtype), *self._levels(total, u))

    def _levels(self, total: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a and s (..., 1, 1) of an integrated noise rate."""
        a, s = torch.exp(-0.5 * total), (-torch.expm1(-total)).sqrt()
        return a.to(like)[..., None, None], s.to(like)[..., None, None]

    def _root(self, a: Tensor, s: Tensor) -> Tensor:
        """G / c_in: the standard deviation of each position x at this noise level."""
        return (a * a + (s * self.scale).square()).sqrt()

    def _prepare(self, u: Tensor, t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        root, factor = self._root(a, s), s * self.scale / a
        h = self.lift(u * root) + self.position + self.embed_time(t)[..., None, :]
        return torch.cat([h, factor * u, (factor * root).expand(*u.shape[:-1], 1)], dim=-1)

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        """The prepared rows themselves: they hold their positions already."""
        return prepared

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stream before a layer -> its queries, keys and values (..., d)."""
        q, k, v = self.blocks[layer].qkv(h[..., : self.width]).chunk(3, dim=-1)  # type: ignore[operator]
        return q, k, v

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """The rest of a layer after attention -> the next stream; after the last layer C (..., d)."""
        block, x, carried = self.blocks[layer], h[..., : self.width], h[..., self.width :]
        x = block.norm1(x + block.out(attended))  # type: ignore[operator]
        x = block.norm2(x + block.down(nnf.relu(block.up(x))))  # type: ignore[operator]
        if layer < self.layers - 1:
            return torch.cat([x, carried], dim=-1)
        output = carried[..., :-1] + carried[..., -1:] * self.unlift(x)
        return torch.cat([output, x[..., output.shape[-1] :]], dim=-1)

    def head(self, feature: Tensor) -> Tensor:
        """C (..., d) -> F (..., M)."""
        return feature[..., : self.config.channels]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The library's own output: score at x (B, N, M), its layout, for times t (B,)."""
        order = torch.as_tensor(frequency_order(self.config.length), device=x.device)
        # Times are taken as they are: the embedding magnifies the rounding of a detour over log(a/s).
        beta_min, beta_max = self.schedule.beta_min, self.schedule.beta_max
        a, s = self._levels(t.double() * beta_min + 0.5 * t.double().square() * (beta_max - beta_min), x)
        root = self._root(a, s)
        u = x[:, order] / root
        prepared = self._prepare(u, t.to(x), a, s)
        score = (self.head(plain_forward(self, prepared, t)) * a / (s * self.scale) - u) / root
        return torch.empty_like(score).index_copy_(1, order, score)


@dataclass(frozen=True)
class PeerModel(ScoreModel):
    """A ScoreModel whose tokens are the library's positions over G, in order of frequency: v = 1 / G².

    `position_mean`, `position_std` (N, M), in the library's layout, take positions back to data units.
    """

    position_mean: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    position_std: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def positions(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens (..., N, M) -> standardized positions (..., N, M) in the library's layout."""
        positions = np.empty_like(tokens)
        positions[..., frequency_order(self.length), :] = tokens / np.sqrt(self.v.cpu().numpy())
        return positions

    def series(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens (..., N, M) -> series (..., N, M) in data units, float32."""
        positions = self.positions(tokens) * self.position_std + self.position_mean
        return from_positions(positions).astype(np.float32)

    def magnitudes(self, tokens: np.ndarray) -> np.ndarray:
        """|x| (..., N, M) of each token: here a real or an imaginary part."""
        return np.abs(tokens) / np.sqrt(self.v.cpu().numpy())

    def series_magnitudes(self, series: np.ndarray) -> np.ndarray:
        """|x| (..., N, M) of each token of series (..., N, M) in data units, as `magnitudes` has it."""
        scale = np.where(self.position_std > 0, self.position_std, 1.0)
        positions = (to_positions(series) - self.position_mean) / scale
        return np.abs(positions[..., frequency_order(self.length), :])


def _refuse(name: str, what: str) -> LabError:
    return LabError(
        f"{name}: the checkpoint asks for {what}, which could run code: refused, nothing was loaded"
    )


def _scan(name: str, program: bytes) -> None:
    """Refuse a pickle program by the first name in it that is not allowed, without running it."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name in ("GLOBAL", "INST"):
                wanted = str(argument).replace(" ", ".")
                if wanted not in _ALLOWED or opcode.name == "INST":
                    raise _refuse(name, repr(wanted))
            elif opcode.name in _INDIRECT:
                found = repr(".".join(strings[-2:])) if opcode.name == "STACK_GLOBAL" else opcode.name
                raise _refuse(name, found)
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, IndexError, UnicodeDecodeError) as fault:
        raise LabError(f"{name} is no checkpoint: its pickle is broken ({reason(fault)})") from None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A Lightning checkpoint as plain dicts and tensors. Raises LabError, by name, at any class but the scheduler.

    The pickle program is read as text first; then torch's own weights-only loader reads it, with a stand-in for
    the one allowed class.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"no file {str(path)!r}: check the path")
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise LabError(f"{path.name} takes {size / 1e6:.0f} MB: at most {LIMIT_BYTES / 1e6:.0f} MB are read")
    data = path.read_bytes()
    if not data.startswith(b"PK"):
        if data.startswith(b"\x80"):
            _scan(path.name, data)
        raise LabError(f"{path.name} is no checkpoint of PyTorch 1.6 or later: it is not a ZIP archive")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise LabError(f"{path.name} holds compressed members, which PyTorch never writes: refused")
            programs = [m for m in members if m.filename.endswith(".pkl")]
            if len(programs) != 1 or not programs[0].filename.endswith("data.pkl"):
                raise LabError(
                    f"{path.name} is no Lightning checkpoint: it has {len(programs)} pickles, not one"
                )
            _scan(path.name, archive.read(programs[0]))
        with torch.serialization.safe_globals([(VPScheduler, _SCHEDULER)]):
            checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except LabError:
        raise
    except Exception as fault:  # the loader's own errors are of many classes
        raise LabError(f"{path.name} cannot be read: {reason(fault)}") from None
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise LabError(f"{path.name} is no Lightning checkpoint: it lacks state_dict or hyper_parameters")
    return checkpoint


def _config(name: str, checkpoint: dict[str, Any]) -> PeerConfig:
    settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    try:
        scheduler = settings["noise_scheduler"]
        if not isinstance(scheduler, VPScheduler):
            raise LabError(f"{name}: its noise scheduler is no VPScheduler: only that one is imported")
        noise = vars(scheduler)
        return PeerConfig(
            length=int(settings["max_len"]),
            channels=int(settings["n_channels"]),
            width=int(settings["d_model"]),
            layers=int(settings["num_layers"]),
            heads=int(settings["n_head"]),
            hidden=int(weights["backbone.layers.0.linear1.weight"].shape[0]),
            beta_min=float(noise["beta_0"]),
            beta_max=float(noise["beta_1"]),
            eps=float(noise["eps"]),
            scaled=bool(noise["noise_scaling"]),
        )
    except (KeyError, TypeError, AttributeError) as fault:
        raise LabError(f"{name} is no transformer score model of the library: it lacks {fault}") from None


def _names(layers: int) -> dict[str, str]:
    """Our parameter names -> the library's."""
    names = {
        "position": "pos_encoder.embedding.weight",
        "frequencies": "time_encoder.W",
        "time.weight": "time_encoder.dense.weight",
        "time.bias": "time_encoder.dense.bias",
        "lift.weight": "embedder.weight",
        "lift.bias": "embedder.bias",
        "unlift.weight": "unembedder.weight",
        "unlift.bias": "unembedder.bias",
    }
    parts = {
        "out": "self_attn.out_proj",
        "up": "linear1",
        "down": "linear2",
        "norm1": "norm1",
        "norm2": "norm2",
    }
    for layer in range(layers):
        theirs = f"backbone.layers.{layer}"
        for kind in ("weight", "bias"):
            names[f"blocks.{layer}.qkv.{kind}"] = f"{theirs}.self_attn.in_proj_{kind}"
            for ours, part in parts.items():
                names[f"blocks.{layer}.{ours}.{kind}"] = f"{theirs}.{part}.{kind}"
    return names


def convert(name: str, checkpoint: dict[str, Any]) -> PeerNetwork:
    """The library's weights in our module. Raises LabError when they are not those of its transformer."""
    config = _config(name, checkpoint)
    weights, names = checkpoint["state_dict"], _names(config.layers)
    missing, extra = sorted(set(names.values()) - set(weights)), sorted(set(weights) - set(names.values()))
    if missing or extra:
        fault = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r} besides"
        raise LabError(f"{name} is no transformer score model of the library: it {fault}")
    ours = {key: weights[theirs].detach().float() for key, theirs in names.items()}
    # The library shortens longer rows to sqrt(d) whenever it looks them up: here once and for all.
    table = ours["position"]
    norm, longest = table.norm(dim=1, keepdim=True), config.width**0.5
    table = torch.where(norm > longest, table * (longest / (norm + 1e-7)), table)
    order = torch.as_tensor(frequency_order(config.length))
    try:
        if table.shape != (config.length, config.width):
            raise ValueError(f"the position table has shape {tuple(table.shape)}")
        ours["position"] = table[order]
        network = PeerNetwork(config)
        network.load_state_dict(ours)
    except (RuntimeError, ValueError) as fault:
        raise LabError(f"{name}: weights do not fit their sizes: {reason(fault)}") from None
    if not all(torch.isfinite(p).all() for p in ours.values()):
        raise LabError(f"{name}: a weight is not finite")
    return network.eval().requires_grad_(False)


def import_fourierdiffusion(
    file: str | Path, stats: str | Path, out: str | Path, *, dataset: str = ""
) -> PeerModel:
    """Convert a Lightning checkpoint and its standardization (`mean`, `std` (N, M)); OUT gets weights and card.

    `dataset` names the data it was trained on, where that is known. Raises LabError, and writes nothing, for
    anything but a transformer score model of the library.
    """
    file, stats, out = Path(file), Path(stats), Path(out)
    network = convert(file.name, read_checkpoint(file))
    shape = (network.config.length, network.config.channels)
    if not stats.is_file():
        raise LabError(f"no file {str(stats)!r}: --stats takes an NPZ with mean and std of shape {shape}")
    arrays = read_npz(stats)
    for key in ("mean", "std"):
        if key not in arrays or arrays[key].shape != shape or arrays[key].dtype.kind != "f":
            found = arrays[key].shape if key in arrays else "nothing"
            raise LabError(f"{stats.name}: {key!r} must be floats of shape {shape}, found {found}")
        if not np.isfinite(arrays[key]).all() or (key == "std" and (arrays[key] < 0).any()):
            raise LabError(f"{stats.name}: {key!r} has negative or infinite entries")
    channels = tuple(f"c{i + 1}" for i in range(shape[1]))
    if dataset:
        data = load_dataset(dataset)
        if data.x.shape[1:] != shape:
            raise LabError(
                f"--dataset {dataset}: its windows are {data.x.shape[1:]}, the model makes {shape}"
            )
        channels = data.channels
    tensors = {f"network.{k}": p.contiguous() for k, p in network.state_dict().items()}
    tensors |= {k: torch.as_tensor(arrays[k], dtype=torch.float32) for k in ("mean", "std")}
    config = network.config
    card = {
        "schema": SCHEMA,
        "kind": KIND,
        "title": f"FourierDiffusion transformer, imported from {file.name}",
        "network": dict(vars(config)),
        "schedule": {"kind": "vp", **vars(network.schedule)},
        "length": config.length,
        "channels": list(channels),
        "dataset": dataset,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    replace_file(out / "model.safetensors", lambda path: save_file(tensors, str(path)))
    replace_file(out / "card.json", lambda path: path.write_text(json.dumps(card, indent=1) + "\n"))
    return load_fourierdiffusion(out)


def load_fourierdiffusion(folder: str | Path, device: str = "cpu") -> PeerModel:
    """Load what `import_fourierdiffusion` wrote. Raises LabError when it is damaged."""
    folder = Path(folder)
    try:
        card = json.loads((folder / "card.json").read_text())
        if card.get("kind") != KIND:
            raise LabError(f"{folder} holds no FourierDiffusion model: its kind is {card.get('kind')!r}")
        with safe_open(str(folder / "model.safetensors"), framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118
        network = PeerNetwork(PeerConfig(**card["network"]))
        network.load_state_dict(
            {k.removeprefix("network."): p for k, p in tensors.items() if k.startswith("network.")}
        )
        config = network.config
        v = (1 / network.scale.square()).expand(-1, config.channels).contiguous()
        model = PeerModel(
            name=folder.name,
            network=network.eval().requires_grad_(False),
            schedule=network.schedule,
            length=config.length,
            channels=tuple(card["channels"]),
            mu=torch.zeros_like(v),
            v=v,
            mask=torch.ones_like(v),
            mean=np.zeros(config.channels, dtype=np.float32),
            std=np.ones(config.channels, dtype=np.float32),
            dataset=str(card.get("dataset", "")),
            meta=card,
            position_mean=tensors["mean"].numpy(),
            position_std=tensors["std"].numpy(),
        )
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as fault:
        if isinstance(fault, LabError):
            raise
        raise LabError(f"checkpoint {folder} is damaged: {reason(fault)}") from None
    target = choose_device(device)
    return model if target.type == "cpu" else model.to(target)  # type: ignore[return-value]


def reverse_steps(network: PeerNetwork, x: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The library's own sampler: Euler-Maruyama in its layout, noise at the last step too.

    x (B, N, M) starts at times[0]; noise (S, B, N, M) standard normal; times (S,) evenly falling.
    """
    scale = torch.as_tensor(noise_scale(network.config.length, scaled=network.config.scaled)).to(x)[:, None]
    dt = times[0] - times[1]
    for t, draw in zip(times, noise, strict=True):
        beta = network.schedule.beta_min + (network.schedule.beta_max - network.schedule.beta_min) * t
        score = network.score(x, t.expand(len(x)))
        x = x + dt * (0.5 * beta * x + beta * scale.square() * score) + (dt * beta).sqrt() * scale * draw
    return x


def check_golden(folder: str | Path, golden: str | Path) -> dict[str, float]:
    """Relative L2 differences of an imported model from what the library computed: `score_rel`, `x_final_rel`.

    `golden` is an NPZ with times (K,), x_in and score (K, B, N, M), prior (B, N, M), noise (S, B, N, M),
    timesteps (S,) and x_final (B, N, M). Raises LabError when arrays are missing or do not fit the model.
    """
    network = load_fourierdiffusion(folder).network
    assert isinstance(network, PeerNetwork)
    stored = read_npz(golden)
    needed = ("times", "x_in", "score", "prior", "noise", "timesteps", "x_final")
    missing = [key for key in needed if key not in stored]
    if missing:
        raise LabError(f"{Path(golden).name} lacks {', '.join(missing)}")
    arrays = {key: torch.as_tensor(stored[key]).float() for key in needed}
    tail = (network.config.length, network.config.channels)
    for key in ("x_in", "score", "prior", "noise", "x_final"):
        if arrays[key].shape[-2:] != tail:
            found = tuple(arrays[key].shape[-2:])
            raise LabError(f"{Path(golden).name}: {key!r} ends in {found}, the model has {tail}")
    with torch.inference_mode():
        score = torch.stack(
            [network.score(x, t.expand(len(x))) for x, t in zip(arrays["x_in"], arrays["times"], strict=True)]
        )
        scale = torch.as_tensor(noise_scale(tail[0], scaled=network.config.scaled)).float()[:, None]
        final = reverse_steps(network, arrays["prior"] * scale, arrays["noise"], arrays["timesteps"])
    return {
        "score_rel": _relative(score, arrays["score"]),
        "x_final_rel": _relative(final, arrays["x_final"]),
    }


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth.double()).norm() / truth.double().norm())
