"""JSON from untrusted sources is read within limits, or rejected in one line."""

import json

import pytest
from pydantic import BaseModel, Field

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json, read_json, read_model, validated, write_json


class Size(BaseModel):
    width: int = Field(ge=1, le=100)
    name: str


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": ' + "9" * 301 + "}", "301 digits"),
        ("[" * 65 + "]" * 65, "65|64 levels"),
        ("[" * 200_000, "64 levels"),
        ('{"a": 1, "a": 2}', "more than once"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ', "line 1"),
        ("", "not JSON"),
        (b"\xff{}", "UTF-8"),
    ],
)
def test_what_would_fail_later_is_refused_now(text, word):
    with pytest.raises(LabError, match=word) as caught:
        parse_json(text, "the card")
    assert str(caught.value).startswith("the card") and "\n" not in str(caught.value)


def test_brackets_in_strings_are_no_levels():
    deep = {"a": "[" * 500, "b": '\\"[[', "c": [1.5, -2, 10**19, True, None]}
    assert parse_json(json.dumps(deep), "x") == deep


def test_a_surrogate_pair_is_a_character():
    assert parse_json('"\\ud83d\\ude00"', "x") == "\U0001f600"


def test_what_is_written_is_read_back(tmp_path):
    value = {"größe": [1, 2.5, None], "title": "a\nb"}
    write_json(tmp_path / "sub" / "x.json", value)
    assert read_json(tmp_path / "sub" / "x.json") == value
    with pytest.raises(ValueError):
        write_json(tmp_path / "y.json", {"a": float("nan")})
    assert [p.name for p in tmp_path.iterdir()] == ["sub"]


def test_large_and_missing_files_are_refused(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + json.dumps("x" * 2_000_000).encode())
    assert len(read_json(tmp_path / "x.json")) == 2_000_000
    with pytest.raises(LabError, match="at most 1 MB"):
        read_json(tmp_path / "x.json", limit=1_000_000)
    with pytest.raises(LabError, match="cannot be read"):
        read_json(tmp_path / "none.json")


def test_all_faults_of_a_model_are_listed_at_once(tmp_path):
    with pytest.raises(LabError, match=r"card: width: .*less than or equal to 100; name: field required"):
        validated(Size, {"width": 1000}, "card")
    write_json(tmp_path / "size.json", {"width": 3, "name": "n"})
    assert read_model(Size, tmp_path / "size.json") == Size(width=3, name="n")
