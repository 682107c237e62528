"""The Data and Models pages in a visitor's session: cards, an imported file, an imported model."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from e2crf_core.data.datasets import list_datasets, load_dataset, shipped_datasets
from e2crf_core.io.userfiles import user_folder
from e2crf_core.models import quality_card
from e2crf_core.models.checkpoints import list_checkpoints, read_card
from pages.ui.common import uploads
from pages.ui.common.messages import plain_text
from tests.edited import edit
from tests.packets import canvas_packets
from tests.tiny import tiny_assets
from tests.visits import clean, opened, text

GOLDEN = Path(__file__).parent / "golden" / "fourierdiffusion_wind_144x4"


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tiny_assets(tmp_path_factory.mktemp("assets"), datasets=("wind",))


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))


def charts(at):
    return [json.loads(chart.proto.spec, object_hook=plain) for chart in at.get("plotly_chart")]


def plain(found):
    """Unpack an array of a Plotly figure."""
    if found.keys() >= {"dtype", "bdata"}:
        return np.frombuffer(base64.b64decode(found["bdata"]), dtype=found["dtype"]).tolist()
    return found


def measures(at):
    return {m.label: m.value for m in at.metric}


def csv(rows=400, bad=None):
    lines = ["when;eur;usd;note"]
    for i in range(rows):
        eur = f"{1 + np.sin(i / 9):.3f}".replace(".", ",")
        lines.append(f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00;{'' if i == 50 else eur};{i % 7};x")
    if bad:
        lines[bad] = lines[bad].replace(";x", ";x").rsplit(";", 2)[0] + ";broken;x"
    return "\n".join(lines).encode()


# ---- cards


def test_every_shipped_set_has_a_card_with_rights_split_and_what_was_measured():
    at = opened("data")
    for name in shipped_datasets():
        clean(at.selectbox(key="set").set_value(name).run())
        data, said = load_dataset(name), text(at)
        for words in (
            data.license,
            data.card["origin"],
            data.card["split"]["text"],
            *data.card["attribution"],
        ):
            assert plain_text(words) in said
        assert measures(at)["Held out"] == f"{len(data.heldout):,}"
        windows, energy = charts(at)
        drawn = np.array([trace["y"] for trace in windows["data"]])
        assert len(drawn) == 12 and all((data.x[:, :, 0] == d.astype(np.float32)).all(1).any() for d in drawn)
        assert windows["layout"]["height"] and "time (" in json.dumps(windows["layout"])
        np.testing.assert_allclose(
            np.array([trace["y"] for trace in energy["data"]]).T, 100 * data.localization, rtol=1e-6
        )
        table = at.dataframe[0].value
        n = len(data.localization)
        assert table.iloc[0, 2] == f"{data.localization[round(0.1 * n) - 1, 0]:.1%}"
        assert "frequencies kept" in json.dumps(energy["layout"])


def test_what_was_open_on_one_page_is_not_open_on_the_next():
    at = opened("data", view="import")
    at.query_params.clear()
    clean(at.switch_page("models.py").run())
    assert at.segmented_control(key="part").value == "models" and len(charts(at)) >= 1
    clean(at.switch_page("data.py").run())
    assert at.segmented_control(key="view").value == "sets" and len(charts(at)) == 2


def test_a_link_opens_the_set_it_names_and_says_when_it_is_gone():
    at = opened("data", set="household")
    assert at.selectbox(key="set").value == "household" and at.query_params["set"] == "household"
    assert "'gone'" in text(opened("data", set="gone"))


def test_another_channel_and_other_windows_are_drawn():
    at = opened("data", set="wind")
    before = charts(at)[0]
    clean(at.selectbox(key="channel.wind").set_value(1).run())
    assert "Ws_avg (m/s)" in json.dumps(charts(at)[0]["layout"])
    clean(next(b for b in at.button if b.label == "Show others").click().run())
    assert charts(at)[0]["data"][0]["y"] != before["data"][0]["y"]


# ---- an own file


def uploaded(content, name="My rates.csv"):
    at = opened("data", view="import")
    return clean(at.file_uploader(key="upload").set_value((name, content, "text/csv")).run())


def field(at, start):
    every = [*at.text_input, *at.number_input, *at.multiselect, *at.selectbox, *at.radio]
    return next(w for w in every if w.key and w.key.startswith(start + "."))


def test_an_uploaded_file_becomes_a_data_set_that_all_pages_know():
    at = uploaded(csv())
    said = text(at)
    assert "400 rows" in said and "semicolon" in said
    assert "time in **when**, usually every 1 h" in said
    columns = at.dataframe[0].value.set_index("Column")
    assert columns["Holds"].to_dict() == {"when": "time", "eur": "number", "usd": "number", "note": "text"}
    assert columns.loc["eur", "Gaps"] == 1 and "decimal comma" in columns.loc["eur", "Read as"]
    assert at.dataframe[1].value.iloc[0]["eur"] == "1,000"
    assert field(at, "window").value == 24 and field(at, "channels").value == ["eur", "usd"]
    assert field(at, "stride").value == 1
    clean(field(at, "stride").set_value(8).run())
    clean(at.button(key="import").click().run())
    data = load_dataset("my-rates")
    assert data.x.shape[1:] == (24, 2) and data.title == "My rates"
    figures = measures(at)
    assert figures["Windows"] == str(len(data.x)) and figures["Dropped"] != "0"
    clean(next(b for b in at.button if b.label == "Show it").click().run())
    assert at.selectbox(key="set").value == data.name and "24 rows (1d)" in text(at)
    assert len(charts(at)) == 2
    clean(next(b for b in at.button if b.key == f"remove.{data.name}").click().run())
    assert list_datasets() == shipped_datasets() and not user_folder("data", data.name).exists()


def test_a_stretch_of_the_file_is_drawn_with_its_gaps_before_anything_is_written():
    lines = csv().decode().splitlines()
    at = uploaded("\n".join(lines[:100] + lines[103:]).encode())
    (figure,) = charts(at)
    assert [len(trace["y"]) for trace in figure["data"]] == [398, 398] and figure["data"][0]["y"][0] == 1.0
    shaded = [shape["yref"] for shape in figure["layout"]["shapes"]]
    assert sorted(shaded) == ["y domain", "y domain", "y2 domain"], "a gap in eur, and an outage in both"
    assert list_datasets() == shipped_datasets()


def test_short_gaps_are_filled_on_demand():
    at = uploaded(csv())
    clean(field(at, "gaps").set_value("interpolate").run())
    clean(at.button(key="import").click().run())
    assert measures(at)["Filled cells"] == "1" and measures(at)["Dropped"] == "0"


def test_text_among_numbers_is_shown_left_out_and_refused_by_row_and_column():
    at = uploaded(csv(bad=31))
    assert "'usd'" in text(at) and "row 32" in text(at)
    assert field(at, "channels").value == ["eur"]
    clean(field(at, "channels").set_value(["eur", "usd"]).run())
    clean(at.button(key="import").click().run())
    fault = at.error[0].value
    assert "row 32, column 'usd'" in fault and "'broken'" in fault
    assert "--" not in fault and "\n" not in fault
    assert list_datasets() == shipped_datasets()


def test_a_question_is_shown_and_answered_on_the_page():
    at = uploaded(csv(bad=31))
    assert "Words for missing values" in text(at)
    read = [list(frame.value.get("Read as", [])) for frame in at.dataframe]
    assert any("numbers (decimal comma)" in column for column in read)
    clean(field(at, "missing").set_value("broken").run())
    assert "Words for missing values" not in text(at)
    clean(field(at, "channels").set_value(["eur", "usd"]).run())
    clean(at.button(key="import").click().run())
    assert load_dataset("my-rates").channels == ("eur", "usd") and not at.error


@pytest.mark.parametrize("name", ["../escape", "wind", "", "a b"])
def test_a_name_that_is_taken_or_unsafe_is_refused(name, tmp_path):
    at = uploaded(csv())
    clean(field(at, "name").set_value(name).run())
    clean(at.button(key="import").click().run())
    assert len(at.error) == 1 and list_datasets() == shipped_datasets()
    assert not any(path.name == "dataset.npz" for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("content", [b"", b"a,b\nx,y\nz,w\n", b"a,b\n1,2\n3,4\n5,6,7\n", b"\x00\x01\x02"])
def test_a_file_that_is_no_table_of_numbers_is_refused_in_one_line(content):
    at = uploaded(content)
    assert len(at.error) == 1 and "\n" not in at.error[0].value
    assert not any(b.key == "import" for b in at.button)


def test_ready_windows_keep_their_length(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "at_home", lambda: True)
    path = tmp_path / "windows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(40, 20, 3)).astype(np.float32))
    at = opened("data", view="import")
    clean(at.text_input(key="path").set_value(str(path)).run())
    assert field(at, "window").value == 20 and field(at, "window").disabled
    clean(at.button(key="import").click().run())
    assert load_dataset("windows").x.shape == (40, 20, 3)


def test_paths_are_read_for_visitors_at_this_machine_only(monkeypatch):
    assert not any(w.key == "path" for w in opened("data", view="import").text_input)
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "at_home", lambda: True)
        at = opened("data", view="import")
        clean(at.text_input(key="path").set_value("/no/such/file.csv").run())
        assert "There is no file" in at.error[0].value
    here = type("C", (), {"ip_address": None, "headers": {}})()
    monkeypatch.setattr(uploads.st, "context", here)
    assert uploads.at_home()
    monkeypatch.setattr(uploads.st, "context", type("C", (), {"ip_address": "10.0.0.9", "headers": {}})())
    assert not uploads.at_home()
    forwarded = {"X-Forwarded-For": "10.0.0.9"}
    monkeypatch.setattr(uploads.st, "context", type("C", (), {"ip_address": None, "headers": forwarded})())
    assert not uploads.at_home()


# ---- models


def test_a_model_card_draws_real_and_generated_series_side_by_side(assets):
    folder = assets / "checkpoints" / "wind"
    card = json.loads((folder / "card.json").read_text())
    figure = {"title": "Sliced Wasserstein (time)", "unit": "", "value": 0.3, "low": 0.2, "high": 0.4}
    figure |= {"floor": 0.2, "floor_low": 0.1, "floor_high": 0.3, "ratio": 1.5}
    measured = {"size": 9, "draws": 40, "seed": 0, "solver": "dpmpp_2m", "steps": 60}
    card |= {
        "measured": {**measured, "figures": {"sliced_wasserstein_time": figure}},
        "history": [{"step": 1, "loss": 2.0, "heldout": 1.5}, {"step": 2, "loss": 1.0, "heldout": 1.2}],
        "profile": {"levels": [-1.0, 0.0, 1.0], "weights": [0.5, 1.5, 1.0]},
    }
    edit(folder / "card.json", json.dumps(card))
    at = opened("models", model="wind")
    samples, protocol, history, profile = charts(at)
    names = [trace["name"] for trace in samples["data"]]
    assert names.count("Real, held out") == names.count("Generated") == 16
    held = load_dataset("wind").x[load_dataset("wind").heldout][:, :, 0]
    for trace in samples["data"]:
        known = (held == np.array(trace["y"], dtype=np.float32)).all(1).any()
        assert known == (trace["name"] != "Generated")
    assert [trace["x"] for trace in protocol["data"]] == [[1.0], pytest.approx([1.5])]
    assert history["data"][1]["y"] == [1.5, 1.2] and profile["data"][0]["y"] == [0.5, 1.5, 1.0]
    assert measures(at)["Sliced Wasserstein over floor"] == "1.50×"
    again = opened("models", checkpoint="wind")
    assert charts(again)[0]["data"][16]["y"] == samples["data"][16]["y"]
    clean(next(b for b in at.button if b.label == "Show others").click().run())
    assert charts(at)[0]["data"][16]["y"] != samples["data"][16]["y"]


def test_an_unmeasured_model_says_so(assets):
    card = assets / "checkpoints" / "wind" / "card.json"
    edit(card, json.dumps({k: v for k, v in json.loads(card.read_text()).items() if k != "measured"}))
    assert "Not measured yet" in text(opened("models"))


def bring(at, checkpoint, **more):
    files = {
        "import.weights": ("model.ckpt", checkpoint, ""),
        "import.stats": ("s.npz", more.pop("stats"), ""),
    }
    if "golden" in more:
        files["import.golden"] = ("g.npz", more["golden"], "")
    for key, value in files.items():
        at.file_uploader(key=key).set_value(value)
    clean(at.run())
    return clean(at.button(key="import.run").click().run())


def test_a_fourierdiffusion_checkpoint_is_imported_checked_and_drawn():
    arrays = GOLDEN.with_suffix(".npz").read_bytes()
    at = opened("models", part="import")
    clean(at.selectbox(key="import.data").set_value("wind").run())
    bring(at, GOLDEN.with_suffix(".ckpt").read_bytes(), stats=arrays, golden=arrays)
    assert "to single precision" in text(at)
    assert float(measures(at)["Score, relative error"]) < 1e-5
    assert "model" in list_checkpoints() and read_card("model")["dataset"] == "wind"
    clean(next(b for b in at.button if b.label == "Show it").click().run())
    assert at.selectbox(key="checkpoint").value == "model" and len(charts(at)[0]["data"]) == 32
    live = opened()
    clean(live.selectbox(key="checkpoint").set_value("model").run())
    assert len(canvas_packets(live)) == 1


def test_an_own_model_is_measured_on_demand(monkeypatch, assets):
    shutil.copytree(assets / "checkpoints" / "wind", user_folder("checkpoints", "mine"))
    monkeypatch.setattr(quality_card, "SOLVER", {**quality_card.SOLVER, "steps": 4})
    at = opened("models", checkpoint="mine")
    clean(at.button(key="measure").click().run())
    ratio = read_card("mine")["measured"]["figures"]["sliced_wasserstein_time"]["ratio"]
    assert measures(at)["Sliced Wasserstein over floor"] == f"{ratio:.2f}×"
    assert not any(b.key == "measure" for b in opened("models", checkpoint="wind").button)


def test_a_file_of_few_windows_is_said_to_be_too_short_to_judge_by():
    at = uploaded(csv(rows=60))
    clean(field(at, "stride").set_value(7).run())
    clean(at.button(key="import").click().run())
    assert "too few to judge" in text(at)


def test_a_malicious_checkpoint_is_refused_and_leaves_nothing():
    at = opened("models", part="import")
    payload = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
    bring(at, payload, stats=GOLDEN.with_suffix(".npz").read_bytes())
    assert "os.system" in at.error[0].value and "refused" in at.error[0].value
    assert list_checkpoints() == ["wind"] and not user_folder("checkpoints", "model").exists()


def test_a_model_of_unknown_data_is_drawn_alone_and_refused_by_the_live_page():
    at = opened("models", part="import")
    bring(at, GOLDEN.with_suffix(".ckpt").read_bytes(), stats=GOLDEN.with_suffix(".npz").read_bytes())
    clean(next(b for b in at.button if b.label == "Show it").click().run())
    assert {t["name"] for t in charts(at)[0]["data"]} == {"Generated"}
    live = opened()
    clean(live.selectbox(key="checkpoint").set_value("model").run())
    assert "does not name the data set" in live.error[0].value


def test_damaged_files_of_ones_own_are_named_and_can_be_removed():
    for kind, file in (("data", "dataset.npz"), ("checkpoints", "model.safetensors")):
        user_folder(kind, "broken").mkdir(parents=True)
        (user_folder(kind, "broken") / file).write_bytes(b"?")
    for page, key, link in (
        ("data", "set", {"set": "broken"}),
        ("models", "checkpoint", {"checkpoint": "broken"}),
    ):
        at = opened(page, **link)
        assert at.selectbox(key=key).value == "broken" and len(at.error) == 1
        assert "broken (damaged)" in at.selectbox(key=key).options
        clean(next(b for b in at.button if b.key == "remove.broken").click().run())
        assert not at.error and at.selectbox(key=key).value != "broken"


def test_a_damaged_checkpoint_does_not_take_the_live_page_with_it():
    user_folder("checkpoints", "broken").mkdir(parents=True)
    (user_folder("checkpoints", "broken") / "model.safetensors").touch()
    live = opened()
    clean(live.selectbox(key="checkpoint").set_value("broken").run())
    assert "card" in live.error[0].value
    clean(live.selectbox(key="checkpoint").set_value("wind").run())
    assert not live.error
    for page in ("training.py", "method.py"):
        clean(live.switch_page(page).run())


def test_pages_without_any_model_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(tmp_path / "empty"))
    assert "no trained network" in text(opened("models"))
    assert "Import a file" in text(opened("data"))
    assert "no data set" in text(opened("training"))
