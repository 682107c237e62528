"""What the quality protocol detects: false alarms and power of the protocol, and a table of distance by damage.

    python -m benchmarks.power

Training series stand for the samples of a perfect generator, so that truth is known: a trial draws `--num` of them,
damages them, and asks the protocol (`quality.protocol`) whether the damaged set is as good as the undamaged one by
its distance to held-out data. *False alarm*: other training series, as from another seed, are called worse.
*False pass*: a set that is 10% farther from the data is called as good. *Power*: its change is known to be above 0.
Needs no network and no checkpoint; results are written with their provenance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.datasets import list_datasets, load_dataset
from e2crf_core.diffusion.score_model import token_statistics
from e2crf_core.diffusion.spectral import detokenize, tokenize
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import Provenance
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.quality.protocol import PRIMARY_METRIC, judge, protocol_metrics

HERE = Path(__file__).resolve().parent
WORSE = 1.10
SEEN = 0.95
"""A distance sees a damage if this share of draws lies above the 95% quantile of undamaged draws."""
Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def gaussian_of(train: np.ndarray) -> Damage:
    """Samples of the model without its network: a Gaussian with the mean and token variances of the data."""
    mu, v, mask = token_statistics(train)

    def damage(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        tokens = mu + np.sqrt(v) * rng.standard_normal((len(x), *mu.shape))
        return detokenize(tokens * mask, x.shape[1])

    return damage


def low_pass(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The lowest quarter of the spectrum."""
    tokens = tokenize(x)
    tokens[:, tokens.shape[1] // 4 :] = 0
    return detokenize(tokens, x.shape[1])


def shuffled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each series with its steps in random order."""
    return np.stack([series[rng.permutation(len(series))] for series in x])


def reversed_in_time(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each series backwards."""
    return x[:, ::-1]


def scaled(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Everything 20% larger."""
    return 1.2 * x


def half_copied(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the set, each series twice."""
    return np.concatenate([x[: len(x) // 2], x[: len(x) - len(x) // 2]])


def damages(train: np.ndarray) -> dict[str, Damage]:
    """Every damage of the table by name."""
    return {
        "no network": gaussian_of(train),
        "upper 3/4 deleted": low_pass,
        "steps shuffled": shuffled,
        "time reversed": reversed_in_time,
        "scaled by 1.2": scaled,
        "half copied": half_copied,
    }


def worsened(train: np.ndarray, held: np.ndarray, num: int) -> float:
    """The scale at which sets of `num` training series are 10% farther from held-out ones, on average."""
    rng = np.random.default_rng(1)
    sets = [train[rng.permutation(len(train))[:num]] for _ in range(12)]
    base = np.mean([PRIMARY_METRIC(x, held) for x in sets])
    low, high = 1.0, 3.0
    for _ in range(14):
        middle = 0.5 * (low + high)
        far = np.mean([PRIMARY_METRIC(middle * x, held) for x in sets]) > WORSE * base
        low, high = (low, middle) if far else (middle, high)
    return high


def error_rates(
    train: np.ndarray, held: np.ndarray, blocks: np.ndarray, num: int, trials: int
) -> dict[str, float]:
    """Rates over trials of what the protocol says of sets whose truth is known."""
    scale, rng = worsened(train, held, num), np.random.default_rng(2)
    rates = dict.fromkeys(("false alarm", "false pass", "power", "an equal passes"), 0.0)
    for trial in range(trials):
        order = rng.permutation(len(train))
        x, other = train[order[:num]], train[order[num : 2 * num]]
        equal = x + 0.01 * rng.standard_normal(x.shape)
        options: dict[str, Any] = {"blocks": blocks, "resamples": 100, "seed": trial}
        worse = judge(scale * x, x, held, **options)
        rates["false alarm"] += judge(other, x, held, **options).verdict == "worse"
        rates["false pass"] += worse.verdict == "as good"
        rates["power"] += worse.primary.change.low > 0
        rates["an equal passes"] += judge(equal, x, held, **options).verdict == "as good"
    return {name: count / trials for name, count in rates.items()}


def table(train: np.ndarray, held: np.ndarray, num: int, trials: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By damage and metric: the ratio of the damaged to the undamaged distance, and whether it is seen."""
    rng = np.random.default_rng(3)
    size = min(num, len(train) // 2)
    draws = [train[rng.permutation(len(train))[:size]] for _ in range(trials)]
    metrics = protocol_metrics(train.shape[2], directions=200)
    base = {m.name: np.array([m(x, held) for x in draws]) for m in metrics}
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, damage in damages(train).items():
        broken = [damage(x, rng) for x in draws]
        result[name] = {}
        for m in metrics:
            values = np.array([m(x, held) for x in broken])
            seen = np.mean(values > np.quantile(base[m.name], 0.95)) >= SEEN
            usual = float(base[m.name].mean())
            ratio = float(values.mean()) / usual if usual > 0 else None
            result[name][m.name] = {"ratio": ratio, "seen": bool(seen)}
    return result


def page(studies: dict[str, Any], num: int, trials: int) -> str:
    """The results as a Markdown page."""
    parts = [
        "# What the quality protocol detects\n\n"
        f"Written by `python -m benchmarks.power`: sets of {num} series, {trials} trials."
        " Training series stand for the samples of a perfect generator.\n",
        "| data | false alarm | false pass at +10% | power at +10% | an equal passes |\n|---|---|---|---|---|",
    ]
    parts += [
        f"| {name} | " + " | ".join(f"{100 * rate:.0f}%" for rate in study["rates"].values()) + " |"
        for name, study in studies.items()
    ]
    parts.append(
        "\nDamaged over undamaged distance; bold where at least 95% of damaged draws lie above the 95% quantile of"
        " undamaged ones.\n"
    )
    for name, study in studies.items():
        metrics = list(next(iter(study["table"].values())))
        parts.append(f"## {name}\n\n| damage | " + " | ".join(m.replace("_", " ") for m in metrics) + " |")
        parts.append("|---" * (len(metrics) + 1) + "|")
        for damage, cells in study["table"].items():
            shown = [_shown(cell) for cell in cells.values()]
            parts.append(f"| {damage} | " + " | ".join(shown) + " |")
        parts.append("")
    return "\n".join(parts) + "\n"


def _shown(cell: dict[str, Any]) -> str:
    text = "from 0" if cell["ratio"] is None else f"{cell['ratio']:.2f}"
    return f"**{text}**" if cell["seen"] else text


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--datasets", nargs="*", help="by default all that are shipped")
    parser.add_argument("--num", type=int, default=64, help="series of a set: the default size of a study")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    studies: dict[str, Any] = {}
    for name in arguments.datasets or list_datasets():
        data = load_dataset(name)
        train, held = (
            data.standardize(data.x[part]).astype(np.float64) for part in (data.train, data.heldout)
        )
        provenance = Provenance.now(data=data.digest, checkpoint="none", seeds=(1, 2, 3), batch=0)
        studies[name] = {
            "num": arguments.num,
            "trials": arguments.trials,
            "provenance": provenance.to_json(),
            "rates": error_rates(train, held, heldout_blocks(data), arguments.num, arguments.trials),
            "table": table(train, held, arguments.num, min(arguments.trials, 40)),
        }
        print(name, studies[name]["rates"], flush=True)
    text = page(studies, arguments.num, arguments.trials)
    replace_file(
        arguments.results / "power.json", lambda p: p.write_text(json.dumps(studies, indent=1) + "\n")
    )
    replace_file(arguments.results / "power.md", lambda p: p.write_text(text))
    print(f"written: {arguments.results / 'power.md'} and .json")


if __name__ == "__main__":
    main()
