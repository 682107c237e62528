"""A network of the user's own: the example of docs/protocol.md, consent to its code, and the protocol's laws."""

import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from e2crf_core import CachePolicy, LabError, Sampler, load_checkpoint
from e2crf_core.cli import main
from e2crf_core.models.checkpoints import list_checkpoints, read_card
from e2crf_core.models.own import check_laws, find_factory
from tests.conftest import make_model
from tests.test_error_model import causal_model
from tests.visits import opened, text

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "docs" / "protocol.md"
IMPORT = ["import-network", "mynet:MyNet", "--weights", "mynet.safetensors", "--data", "wind"]


def example() -> str:
    """Return the network of the manual."""
    (code,) = re.findall("```python\n(.*?)```", PROTOCOL.read_text(), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Provide a folder with the manual's network and its weights after some steps of training."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mynet.py").write_text(example())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["mynet.py", "60"])
        torch.manual_seed(0)
        runpy.run_path("mynet.py", run_name="__main__")
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch) -> Path:
    """Go to a copy of that folder, with an empty folder of the user's own."""
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))
    return tmp_path / "work"


def refused(capsys, *words: str) -> None:
    """Check that the last command said one line with these words."""
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and all(word in message for word in words), message


class TestExample:
    def test_it_has_sixty_lines(self):
        assert len(example().splitlines()) <= 66

    def test_the_network_is_imported_cached_and_on_every_page(self, here, monkeypatch, capsys):
        assert main([*IMPORT, "--trust"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["heldout_loss"]["value"] < 1 and report["largest_difference"] < 1e-4
        assert "mynet" in list_checkpoints() and len(read_card("mynet")["profile"]["levels"]) > 10
        model = load_checkpoint("mynet", "cpu")
        made = Sampler(model, CachePolicy.preset("fast"), steps=60).sample(2, 0)
        assert made.series.shape == (2, 144, 4) and made.flop_share < 0.9
        # Streamlit reads the theme of the current folder.
        monkeypatch.chdir(ROOT)
        assert opened("models", checkpoint="mynet").selectbox(key="checkpoint").value == "mynet"
        assert any("mynet" in name for name in opened().selectbox(key="checkpoint").options)

    def test_without_consent_no_line_of_it_runs(self, here, capsys):
        (here / "mynet.py").write_text("from pathlib import Path\nPath('ran').touch()\n" + example())
        assert main(IMPORT) == 2
        refused(capsys, "--trust", "runs the code", "mynet.py")
        assert not (here / "ran").exists() and "mynet" not in list_checkpoints()
        assert main([*IMPORT, "--trust"]) == 0 and (here / "ran").exists()

    def test_code_that_changed_or_came_from_elsewhere_is_refused(self, here, monkeypatch, capsys):
        assert main([*IMPORT, "--trust"]) == 0
        (here / "mynet.py").write_text("raise SystemExit\n" + example())
        with pytest.raises(LabError, match="has changed since"):
            load_checkpoint("mynet")
        monkeypatch.chdir(ROOT)
        assert "has changed since" in text(opened("models", checkpoint="mynet"))
        folder = here.parent / "home" / "checkpoints" / "mynet"
        monkeypatch.setenv("E2CRF_HOME", str(here.parent / "other"))
        with pytest.raises(LabError, match="not agreed to run"):
            load_checkpoint(folder)

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (lambda code: code + "\n1 / 0\n", ["cannot be imported", "ZeroDivisionError"]),
            (lambda code: code.replace("def head", "def tail"), ["lacks head"]),
            (lambda code: code.replace("WIDTH, LAYERS, 4", "WIDTH, LAYERS, 5"), ["divisible", "5 heads"]),
            (lambda code: code.replace("48, 2", "32, 2"), ["--weights", "do not fit"]),
            (lambda code: code.replace("class MyNet", "class YourNet"), ["no function 'MyNet'"]),
            (lambda code: code.replace("return u\n", "return u / 0\n"), ["not finite"]),
            (
                lambda code: code.replace("return self.unlift(feature)", "return feature.missing"),
                ["failed while computing", "missing"],
            ),
        ],
    )
    def test_a_network_that_does_not_work_is_refused_and_leaves_nothing(self, here, capsys, edit, words):
        (here / "mynet.py").write_text(edit(example()))
        assert main([*IMPORT, "--trust"]) == 2
        refused(capsys, *words)
        assert "mynet" not in list_checkpoints()

    def test_weights_are_never_unpickled(self, here, capsys):
        state = {"a": torch.zeros(1), "b": Path("x")}
        torch.save(state, here / "weights.pt")
        assert main([*IMPORT[:3], "weights.pt", *IMPORT[4:], "--trust"]) == 2
        refused(capsys, "weights.pt", "cannot be read as weights")
        save_file({"position": torch.full((1,), torch.nan)}, here / "nan.safetensors")
        assert main([*IMPORT[:3], "nan.safetensors", *IMPORT[4:], "--trust"]) == 2
        refused(capsys, "not finite")

    @pytest.mark.parametrize("reference", ["mynet", "no_such:build", "../mynet:MyNet", "os.path:"])
    def test_a_reference_without_a_file_is_refused(self, here, reference):
        with pytest.raises(LabError) as refusal:
            find_factory(reference)
        assert refusal.value.field == "factory"

    def test_checkpoints_of_other_kinds_are_not_overwritten(self, here, capsys):
        assert main([*IMPORT, "--trust", "--name", "wind"]) == 2
        refused(capsys, "ships with the lab")


class TestLaws:
    @pytest.mark.parametrize("make", [make_model, causal_model])
    def test_our_networks_keep_them(self, make):
        laws = check_laws(make())
        assert len(laws) > 10 and max(law.difference for law in laws) < 1e-6

    @pytest.mark.parametrize(
        ("piece", "change", "words"),
        [
            ("head", lambda y, *_: y + 0.1 * torch.rand_like(y), "the same state gives the same output"),
            ("prepare", lambda y, *_: y + y.mean(0), "does not depend on its batch"),
            ("embed", lambda y, *_: y - y.mean(-2, keepdim=True), "embed treats tokens one by one"),
            ("finish", lambda y, *_: y - y.mean(-2, keepdim=True), "finish of layer 0"),
            ("head", lambda y, *_: y[..., :1], "F has shape"),
            ("head", lambda y, *_: y * torch.nan, "not finite"),
        ],
    )
    def test_a_network_that_breaks_one_is_told_which(self, monkeypatch, piece, change, words):
        model = make_model()
        whole = getattr(model.network, piece)
        monkeypatch.setattr(model.network, piece, lambda *args: change(whole(*args), *args))
        with pytest.raises(LabError, match=words):
            check_laws(model)

    def test_keys_beyond_its_bands_are_found(self):
        model = causal_model()
        open_network = replace(model).network
        open_network.visible = torch.ones_like(open_network.visible)
        with pytest.raises(LabError, match="lowest"):
            check_laws(model)
