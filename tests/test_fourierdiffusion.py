"""An imported model: reading it runs no code from the file, and it computes what its own program computes."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.models.cards import SCHEMA
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.fourierdiffusion import (
    VPScheduler,
    check_golden,
    frequency_order,
    from_positions,
    import_fourierdiffusion,
    load_fourierdiffusion,
    noise_scale,
    read_checkpoint,
    to_positions,
)
from e2crf_core.network.forward import plain_forward
from e2crf_core.sampling.sampler import Sampler

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINT = GOLDEN / "fourierdiffusion_wind_144x4.ckpt"
STATS = GOLDEN / "fourierdiffusion_wind_144x4.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "windmill"
    import_fourierdiffusion(CHECKPOINT, STATS, out, dataset="wind")
    return out


@pytest.fixture(scope="module")
def model(folder):
    return load_fourierdiffusion(folder)


# ---- golden data


def test_golden_data_are_reproduced(folder):
    found = check_golden(folder, STATS)
    assert found.keys() == {"score_rel", "x_final_rel"}
    assert max(found.values()) < 1e-5


def test_the_golden_check_sees_a_wrong_weight(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "card.json").write_text((folder / "card.json").read_text())
    weights = load_file(folder / "model.safetensors")
    weights["network.blocks.1.up.bias"][0] += 0.5
    save_file(weights, tmp_path / "model.safetensors")
    assert check_golden(tmp_path, STATS)["score_rel"] > 1e-5


def test_positions_become_the_series_of_the_library(model):
    with np.load(STATS) as golden:
        positions = golden["x_final"] * golden["std"] + golden["mean"]
        np.testing.assert_allclose(from_positions(positions), golden["series"], rtol=1e-4, atol=1e-2)
        tokens = (
            golden["x_final"][:, frequency_order(144)]
            / noise_scale(144, scaled=True)[frequency_order(144), None]
        )
        np.testing.assert_allclose(model.series(tokens), golden["series"], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 144])
def test_the_layout_inverts_and_its_noise_is_white_in_tokens(length):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, length, 3))
    np.testing.assert_allclose(from_positions(to_positions(x)), x, atol=1e-12)
    # G undoes exactly what the half spectrum does to the energy: tokens are an orthonormal map of the series.
    tokens = to_positions(x) / noise_scale(length, scaled=True)[:, None]
    np.testing.assert_allclose((tokens**2).sum(1), (x**2).sum(1))
    assert sorted(frequency_order(length)) == list(range(length))


def test_low_tokens_are_low_frequencies():
    assert frequency_order(6).tolist() == [0, 1, 4, 2, 5, 3]
    assert frequency_order(5).tolist() == [0, 1, 3, 2, 4]


# ---- the adapter


def test_the_denoiser_is_the_score_in_other_words(model):
    """D from F (E3) equals (z + s² score) / a, so the cached part means the same as in our own models."""
    rng = np.random.default_rng(1)
    z = torch.as_tensor(rng.normal(size=(2, 144, 4)), dtype=torch.float32)
    scale = model.network.scale
    back = torch.as_tensor(np.argsort(frequency_order(144)))
    for t in (0.9, 0.4, 0.05):
        p = model.precondition(t)
        level = torch.tensor(model.schedule.log_snr(t), dtype=torch.float64)
        prepared = model.network.prepare(p.c_in * z, level)
        feature = plain_forward(model.network, prepared, model.network.condition(level))
        denoised = p.c_skip * z + p.c_out * model.network.head(feature)
        score = (
            model.network.score((scale * z)[:, back], torch.full((2,), t))[:, frequency_order(144)] * scale
        )
        expected = (z + model.schedule.s(t) ** 2 * score) / model.schedule.a(t)
        assert (denoised - expected).norm() / expected.norm() < 2e-5


def test_sampling_with_a_cache_that_reuses_nothing_equals_sampling_without(model):
    plain = Sampler(model, steps=12, policy=None).sample(3, seed=2)
    exact = Sampler(model, CachePolicy.preset("exact"), steps=12).sample(3, seed=2)
    assert exact.token_share == 1.0
    np.testing.assert_allclose(exact.tokens, plain.tokens, rtol=1e-3, atol=1e-4)


def test_sampling_with_a_cache_does_less_and_stays_near(model):
    plain = Sampler(model, steps=60, policy=None).sample(3, seed=2)
    far = {}
    for tau in (0.1, 0.3):
        policy = CachePolicy.preset("balanced").replace(trigger="log_snr", tau=tau)
        made = Sampler(model, policy, steps=60).sample(3, seed=2)
        assert made.token_share < 1 and made.flop_share < 1
        far[tau] = np.linalg.norm(made.tokens - plain.tokens) / np.linalg.norm(plain.tokens)
    assert 0 < far[0.1] < far[0.3] and far[0.1] < 0.1


def test_some_tokens_alone_are_recomputed_as_in_a_full_pass(model):
    """The paper's trigger recomputes token by token: the imported network must run through selective_forward."""
    policy = CachePolicy.preset("paper")
    made = Sampler(model, policy, steps=20).sample(2, seed=0)
    assert 0 < made.token_share < 1
    assert np.isfinite(made.series).all() and made.series.shape == (2, 144, 4)


def test_the_card_says_what_the_model_is(folder, model):
    card = json.loads((folder / "card.json").read_text())
    assert (card["schema"], card["kind"], card["dataset"]) == (SCHEMA, "fourierdiffusion", "wind")
    assert model.channels == ("P_avg", "Ws_avg", "Ba_avg", "Ot_avg")
    assert card["network"]["layers"] == 2 and card["network"]["heads"] == 12
    assert model.n == 144 and model.v.shape == (144, 4)
    assert (model.v[0] == 1).all() and model.v[1].allclose(torch.tensor(2.0))


# ---- files that mean harm


class Payload:
    """An object that writes a file when it is unpickled."""

    def __init__(self, target, function=os.system):
        self.target, self.function = target, function

    def __reduce__(self):
        return self.function, (f"touch {self.target}",)


def checkpoint_with(tmp_path, program):
    """Write the golden checkpoint with a different pickle program inside."""
    path = tmp_path / "evil.ckpt"
    with zipfile.ZipFile(CHECKPOINT) as good, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as evil:
        for member in good.infolist():
            evil.writestr(
                member.filename, program if member.filename.endswith("data.pkl") else good.read(member)
            )
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("hidden_in", ["hyper_parameters", "callbacks"])
def test_a_malicious_pickle_is_refused_by_name_and_writes_nothing(tmp_path, protocol, hidden_in):
    target = tmp_path / "written"
    program = pickle.dumps({"state_dict": {}, hidden_in: Payload(target)}, protocol)
    path = checkpoint_with(tmp_path, program)
    with pytest.raises(LabError, match=r"system") as fault:
        import_fourierdiffusion(path, STATS, tmp_path / "out")
    assert "\n" not in str(fault.value)
    assert not target.exists() and not (tmp_path / "out").exists()


def test_the_payload_of_these_tests_would_have_worked(tmp_path):
    target = tmp_path / "written"
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()


def test_a_bare_pickle_is_refused_by_name(tmp_path):
    target = tmp_path / "written"
    path = tmp_path / "bare.ckpt"
    path.write_bytes(pickle.dumps(Payload(target, eval)))
    with pytest.raises(LabError, match="eval"):
        read_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cfdiff.schedulers.sde\nVEScheduler\n)\x81.",
        b"ctorch._utils\n_rebuild_parameter\n.",
        b"cbuiltins\ngetattr\n.",
        b"(icollections\nOrderedDict\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_no_other_class_is_allowed_not_even_a_harmless_one(tmp_path, program):
    with pytest.raises(LabError, match="refused"):
        read_checkpoint(checkpoint_with(tmp_path, program))


def test_the_stand_in_for_the_scheduler_runs_nothing(tmp_path):
    program = b"\x80\x02}X\x0a\x00\x00\x00state_dict"
    program += b"cfdiff.schedulers.sde\nVPScheduler\n)\x81}X\x01\x00\x00\x00aK\x01sbs."
    with pytest.raises(LabError, match="hyper_parameters"):
        read_checkpoint(checkpoint_with(tmp_path, program))


@pytest.mark.parametrize("cut", [0, 100, 100_000])
def test_files_that_are_cut_off_are_refused(tmp_path, cut):
    path = tmp_path / "cut.ckpt"
    path.write_bytes(CHECKPOINT.read_bytes()[:cut])
    with pytest.raises(LabError):
        import_fourierdiffusion(path, STATS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def change(tmp_path, edit):
    """Write the golden checkpoint with edited contents."""
    with torch.serialization.safe_globals([(VPScheduler, "fdiff.schedulers.sde.VPScheduler")]):
        contents = torch.load(CHECKPOINT, weights_only=True)
    edit(contents)
    contents["hyper_parameters"].setdefault("noise_scheduler", None)
    stream = io.BytesIO()
    torch.save(contents, stream)
    path = tmp_path / "changed.ckpt"
    with zipfile.ZipFile(stream) as written, zipfile.ZipFile(path, "w") as out:
        for member in written.infolist():
            data = written.read(member)
            if member.filename.endswith("data.pkl"):
                data = data.replace(f"c{VPScheduler.__module__}\n".encode(), b"cfdiff.schedulers.sde\n")
            out.writestr(member.filename, data)
    return path


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda c: c["state_dict"].pop("embedder.bias"), "embedder.bias"),
        (lambda c: c["state_dict"].update(extra=torch.zeros(1)), "extra"),
        (lambda c: c["state_dict"].update({"embedder.bias": torch.zeros(7)}), "lift.bias"),
        (lambda c: c["state_dict"].update({"embedder.bias": torch.full((48,), torch.nan)}), "finite"),
        (lambda c: c["hyper_parameters"].update(n_head=7), "sizes"),
        (lambda c: c["hyper_parameters"].pop("d_model"), "d_model"),
        (lambda c: c["hyper_parameters"].update(noise_scheduler=3), "VPScheduler"),
        (lambda c: c.pop("state_dict"), "state_dict"),
    ],
)
def test_checkpoints_of_other_models_are_refused(tmp_path, edit, word):
    with pytest.raises(LabError, match=word):
        import_fourierdiffusion(change(tmp_path, edit), STATS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_the_position_table_are_shortened_as_the_library_does_at_look_up(tmp_path):
    def lengthen(contents):
        contents["state_dict"]["pos_encoder.embedding.weight"] *= 3

    path = change(tmp_path, lengthen)
    model = import_fourierdiffusion(path, STATS, tmp_path / "long")
    norms = model.network.position.norm(dim=1)
    assert norms.max() == pytest.approx(48**0.5, rel=1e-5)
    assert norms.min() > 48**0.5 - 1e-3, "every row was longer than allowed"


@pytest.mark.parametrize(
    ("stats", "word"),
    [
        ({"mean": np.zeros((144, 4))}, "'std'"),
        ({"mean": np.zeros((144, 3)), "std": np.ones((144, 3))}, "'mean'"),
        ({"mean": np.full((144, 4), np.inf), "std": np.ones((144, 4))}, "infinite"),
        ({"mean": np.zeros((144, 4)), "std": -np.ones((144, 4))}, "negative"),
    ],
)
def test_a_standardization_that_does_not_fit_is_refused(tmp_path, stats, word):
    np.savez(tmp_path / "stats.npz", **stats)
    with pytest.raises(LabError, match=word):
        import_fourierdiffusion(CHECKPOINT, tmp_path / "stats.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dataset", ["ecg", "nowhere"])
def test_a_data_set_that_does_not_fit_is_refused(tmp_path, dataset):
    with pytest.raises(LabError, match=dataset):
        import_fourierdiffusion(CHECKPOINT, STATS, tmp_path / "out", dataset=dataset)
    assert not (tmp_path / "out").exists()


def test_golden_files_that_do_not_fit_are_refused(folder, tmp_path):
    with np.load(STATS) as golden:
        arrays = dict(golden)
    arrays["x_in"] = arrays["x_in"][..., :3]
    np.savez(tmp_path / "narrow.npz", **arrays)
    with pytest.raises(LabError, match="'x_in'"):
        check_golden(folder, tmp_path / "narrow.npz")
    del arrays["noise"]
    np.savez(tmp_path / "short.npz", **arrays)
    with pytest.raises(LabError, match="noise"):
        check_golden(folder, tmp_path / "short.npz")


def test_a_refusal_names_the_file_and_the_fault_once(tmp_path):
    with pytest.raises(LabError) as refusal:
        read_checkpoint(checkpoint_with(tmp_path, b"cbuiltins\ngetattr\n."))
    assert str(refusal.value).count("evil.ckpt") == 1 and "broken" not in str(refusal.value)
    with pytest.raises(LabError, match="its pickle is broken"):
        read_checkpoint(checkpoint_with(tmp_path, b"\x80\x02}X\xff\xff"))


@pytest.mark.parametrize(
    ("change_card", "word"),
    [
        (lambda c: c["network"].update(layers=100_000), "network.layers"),
        (lambda c: c["network"].update(length=1 << 40), "network.length"),
        (lambda c: c.update(length=1 << 40), "length"),
        (lambda c: c["network"].update(width=16_384, layers=256), "does not fit its card"),
        (lambda c: c["network"].update(heads=7), "heads"),
        (lambda c: c.update(channels=[]), "channels"),
        (lambda c: c.update(kind="wavelets"), "'wavelets'"),
        (lambda c: c.pop("network"), "network"),
    ],
)
def test_a_card_that_states_what_nobody_can_build_is_refused_before_anything_is_built(
    folder, tmp_path, change_card, word
):
    card = json.loads((folder / "card.json").read_text())
    change_card(card)
    out = tmp_path / "damaged"
    out.mkdir()
    (out / "card.json").write_text(json.dumps(card))
    (out / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(LabError, match=word) as refusal:
        load_checkpoint(out, device="cpu")
    assert "\n" not in str(refusal.value)


def test_a_shipped_name_is_not_taken(tmp_path):
    with pytest.raises(LabError, match="ships with the lab"):
        import_fourierdiffusion(CHECKPOINT, STATS, tmp_path / "stocks")
    assert not (tmp_path / "stocks").exists()
