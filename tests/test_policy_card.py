"""A policy card can be run with three lines, is checked by a gate, and is rejected if damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from e2crf_core import LabError, Sampler, load_policy
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.cli import main
from e2crf_core.deploy.card import PolicyCard, usage
from e2crf_core.deploy.check import check_card, judge
from e2crf_core.deploy.html import save_card, to_html
from e2crf_core.deploy.measure import cautions, make_card, valid_range
from e2crf_core.models.checkpoints import load_checkpoint, save_checkpoint
from e2crf_core.quality.interval import Interval
from e2crf_core.sampling.config import SamplerConfig
from tests.conftest import make_model
from tests.edited import edit
from tests.tiny import tiny_assets

POLICY = CachePolicy(trigger="log_snr", tau=0.4)
CONFIG = SamplerConfig(POLICY, steps=40, solver="ddim", batch=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    save_checkpoint(make_model(dtype=torch.float32), folder)
    return folder


@pytest.fixture(scope="module")
def made(checkpoint: Path) -> PolicyCard:
    """Provide a card whose wall-clock range no machine can leave: this machine's speed is not tested."""
    card = make_card(str(checkpoint), load_checkpoint(checkpoint, "cpu"), CONFIG, num=8)
    return replace(card, valid=replace(card.valid, speedup_wall_min=0.0))


def test_a_card_round_trips_and_its_three_lines_run(
    made: PolicyCard, checkpoint: Path, tmp_path: Path
) -> None:
    save_card(made, tmp_path)
    path = str(tmp_path / "card.json")
    card = load_policy(path)
    assert card == made and card.policy == POLICY
    assert CachePolicy.from_json((tmp_path / "policy.json").read_text()) == POLICY
    code = usage(path)
    assert len(code.strip().splitlines()) == 1 + 3
    names: dict[str, Any] = {}
    exec(code, names)
    model = load_checkpoint(checkpoint, "cpu")
    expected = Sampler(model, POLICY, steps=40, solver="ddim", grid="linear", batch=4).sample(16, 0)
    np.testing.assert_array_equal(names["series"], expected.series)


def test_a_card_states_the_backend_that_it_was_measured_on(checkpoint: Path) -> None:
    model = load_checkpoint(checkpoint, "cpu")
    exact = replace(CONFIG, policy=PRESETS["exact"], backend="eager-bf16")
    card = make_card(str(checkpoint), model, exact, num=4)
    assert 1e-7 < card.measured.relative_l2.value < 0.05, "the reference runs in float32"
    assert PolicyCard.from_json(card.to_json()) == card and "eager-bf16" in to_html(card)
    assert Sampler(card.model(), card.policy, **card.settings).config.backend == "eager-bf16"
    with pytest.raises(LabError, match="backend"):
        PolicyCard.from_json(card.to_json().replace("eager-bf16", "auto"))


def with_tau(card: PolicyCard, tau: float) -> PolicyCard:
    return replace(card, config=replace(card.config, policy=card.policy.replace(tau=tau)))


def test_the_gate_passes_on_the_card_just_made_and_fails_on_another_threshold(made: PolicyCard) -> None:
    assert check_card(made, "cpu").passed
    loose = check_card(with_tau(made, 10 * POLICY.tau), "cpu")
    assert not loose.passed and "relative L2" in loose.reasons[0]
    tight = check_card(with_tau(made, POLICY.tau / 10), "cpu")
    assert not tight.passed and "operations" in tight.reasons[0]


def test_each_bound_has_a_verdict_of_its_own(made: PolicyCard) -> None:
    m = made.measured
    assert judge(made, m, "cpu").passed
    slow = replace(m, speedup_wall=Interval(0.5, 0.4, 0.6))
    strict = replace(made, valid=replace(made.valid, speedup_wall_min=0.9))
    assert "0.5 times as fast" in judge(strict, slow, "cpu").reasons[0]
    elsewhere = judge(strict, slow, "cuda")
    assert elsewhere.passed and "cuda" in elsewhere.notes[-1]
    drifted = replace(m, change=Interval(0.5, 0.4, 0.6), spectral_change=Interval(3.0, 2.0, 4.0))
    bounded = replace(made, valid=replace(made.valid, change_max=0.1, spectral_change_max=1.0))
    values, spectrum = judge(bounded, drifted, "cpu").reasons
    assert "+50%, at most +10%" in values and "+3 dB, at most +1 dB" in spectrum
    broken = replace(m, relative_l2=Interval(float("nan"), 0, 0))
    assert not judge(made, broken, "cpu").passed


def test_a_range_holds_its_own_measurement(made: PolicyCard) -> None:
    valid = valid_range(made.measured)
    assert judge(replace(made, valid=valid), made.measured, "cpu").passed
    exact = replace(made.measured, relative_l2=Interval(0.0, 0.0, 0.0))
    assert judge(replace(made, valid=valid_range(exact)), exact, "cpu").passed


def test_a_busy_machine_does_not_make_a_bound_that_a_quiet_one_breaks(made: PolicyCard) -> None:
    """If another program slows the uncached runs, the card demands no more than operations can explain."""
    lucky = replace(made.measured, speedup_flops=7.0, speedup_wall=Interval(14.0, 13.0, 15.0))
    assert valid_range(lucky).speedup_wall_min <= 7.0
    slower = replace(made.measured, speedup_flops=7.0, speedup_wall=Interval(5.0, 4.0, 6.0))
    assert valid_range(slower).speedup_wall_min < 4.0


def test_a_card_warns_of_a_policy_that_saves_nothing(made: PolicyCard) -> None:
    m = made.measured
    fast = replace(m, speedup_wall=Interval(2.0, 1.8, 2.2))
    assert cautions(replace(made, measured=fast)) == []
    for measured, words in (
        (replace(fast, token_share=1.0), "reuses nothing"),
        (replace(m, speedup_wall=Interval(0.8, 0.7, 0.9)), "is slower"),
        (replace(m, speedup_wall=Interval(0.98, 0.9, 1.1)), "may be slower"),
    ):
        card = replace(made, measured=measured)
        assert words in cautions(card)[0] and words in to_html(card)


def test_a_card_warns_of_samples_that_are_worse_or_hardly_computed(made: PolicyCard) -> None:
    fast = replace(made.measured, speedup_wall=Interval(2.0, 1.8, 2.2))
    small, close = Interval(0.0, -0.01, 0.01), Interval(0.1, 0.0, 0.2)
    for change, spectral, words in (
        (small, close, None),
        (Interval(0.2, 0.1, 0.3), close, "are worse than"),
        (small, Interval(3.0, 2.0, 4.0), "are worse than"),
        (small, Interval(0.4, -1.0, 1.8), "not certain to be as good"),
    ):
        notes = cautions(replace(made, measured=replace(fast, change=change, spectral_change=spectral)))
        assert len(notes) == (words is not None) and all(words in note for note in notes if words)
    once = replace(made, measured=replace(fast, token_share=1 / CONFIG.steps))
    assert "only 1 times" in cautions(once)[0]
    late = replace(made, config=replace(CONFIG, policy=CachePolicy(refresh_every=90)))
    assert "every 90 steps" in cautions(replace(late, measured=fast))[0]


def test_a_card_of_the_first_schema_still_runs_and_is_checked(made: PolicyCard, tmp_path: Path) -> None:
    stored = json.loads(made.to_json())
    for name in ("seconds_alone", "twin", "distance", "floor", "change", "spectral_change"):
        del stored["measured"][name]
    for name in ("median_l2_max", "change_max", "spectral_change_max"):
        del stored["valid"][name]
    old = {"sliced_wasserstein": None, "sliced_wasserstein_change": None, "sliced_wasserstein_floor": None}
    stored["measured"] |= old
    stored["valid"]["sliced_wasserstein_change_max"] = None
    (tmp_path / "card.json").write_text(json.dumps(stored | {"schema": 1}))
    card = load_policy(tmp_path / "card.json")
    assert card.config == made.config and card.measured.twin is None
    assert check_card(card, "cpu").passed and "not measured" in to_html(card)


def test_other_weights_fail_the_gate(made: PolicyCard, tmp_path: Path) -> None:
    save_checkpoint(make_model(dtype=torch.float32, seed=3), tmp_path / "other")
    verdict = check_card(replace(made, checkpoint=str(tmp_path / "other")), "cpu")
    assert not verdict.passed and "digest" in verdict.reasons[0]


def test_the_page_tells_everything_and_cannot_be_injected(made: PolicyCard) -> None:
    page = to_html(replace(made, dataset="<script>alert(1)</script>"))
    assert "<script" not in page and made.digest[:16] in page and "load_policy" in page
    for text in ("log_snr", "0.4", "ddim", "Relative L2 at most", "check --card"):
        assert text in page


def damage(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "recipe"}, "not a policy card"),
        ({"schema": 9}, "schema"),
        ({"steps": "many"}, "steps"),
        ({"steps": True}, "steps"),
        ({"batch": 0}, "batch"),
        ({"digest": None}, "digest"),
        ({"policy": {"schema": 1, "tau": -1}}, "tau"),
        ({"policy": []}, "policy"),
        ({"valid": {}}, "relative_l2_max"),
        ({"valid": []}, "valid"),
        ({"measured": None}, "measured"),
        ({"versions": 3}, "versions"),
        ({"machine": 3}, "machine"),
        ({"surprise": 3}, "surprise"),
        ({"steps": 10**400}, "401 digits"),
        ({"steps": 10**9, "batch": 0}, "steps.*batch"),
    ],
)
def test_a_damaged_card_is_refused_in_one_line(made: PolicyCard, change: dict[str, Any], word: str) -> None:
    with pytest.raises(LabError, match=word) as caught:
        PolicyCard.from_json(damage(made.to_json(), **change))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_cards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_bytes(b" " * 1_000_001)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    (tmp_path / "text.json").write_text("[1,")
    for name, word in (
        ("big", "1 MB are read"),
        ("binary", "UTF-8"),
        ("text", "JSON"),
        ("absent", "cannot be read"),
    ):
        with pytest.raises(LabError, match=word):
            load_policy(tmp_path / f"{name}.json")


def test_from_a_search_to_a_gate_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tune, deploy the choice, check it (0), check it at ten times the threshold (1), check nonsense (2)."""
    monkeypatch.setenv("E2CRF_ASSETS", str(tiny_assets(tmp_path / "assets", ("ecg",))))
    study, out = tmp_path / "study", tmp_path / "deployed"
    search = [
        "tune",
        "--checkpoint",
        "ecg",
        "--out",
        str(study),
        "--num",
        "4",
        "--batch",
        "2",
        "--cost",
        "flops",
    ]
    search += ["--solvers", "ddim", "--steps", "40", "--grids", "linear", "--triggers", "log_snr"]
    search += ["--trials", "3", "--minutes", "5", "--device", "cpu"]
    assert main(search) == 0
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert report["trials"] == 3 and (study / "study.json").is_file()
    deploy = [
        "deploy",
        "--checkpoint",
        "ecg",
        "--num",
        "8",
        "--batch",
        "2",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    if report["setting"]["policy"] is None:
        assert main([*deploy, "--study", str(study)]) == 2
        assert "no cache" in capsys.readouterr().err
    else:
        assert main([*deploy, "--study", str(study)]) == 0
        assert load_policy(out / "card.json").policy.tau == report["setting"]["policy"]["tau"]
    fresh = ["--policy", "balanced", "--solver", "ddim", "--steps", "60"]
    assert main([*deploy, *fresh]) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["checkpoint"] == "ecg" and card["measured"]["distance"]["value"] > 0
    card["valid"]["speedup_wall_min"] = 0.0
    edit(out / "card.json", json.dumps(card))
    check = ["check", "--device", "cpu", "--card"]
    capsys.readouterr()
    assert main([*check, str(out / "card.json")]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    card["policy"] |= {"tau": 10 * PRESETS["balanced"].tau}
    (out / "loose.json").write_text(json.dumps(card))
    assert main([*check, str(out / "loose.json")]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")]
    assert len(told) == 1 and "quality" in told[0]
    assert main([*check, str(out / "absent.json")]) == 2
    assert main([*deploy, "--study", str(tmp_path / "nothing")]) == 2
