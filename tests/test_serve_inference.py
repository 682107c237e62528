"""The Open Inference Protocol (v2), as its stock client speaks it, and as others may get it wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.http as triton
from fastapi.testclient import TestClient

from e2crf_core.caching.policy import PRESETS
from e2crf_core.serving.requests import Limits
from e2crf_core.serving.server import make_app
from tests.test_serve import BODY, LOCAL, MODEL, expected, held, running

INFER = f"/v2/models/{MODEL.name}/infer"
LIMITS = Limits(num=8, steps=200, queue=1)


@pytest.fixture(scope="module")
def stock() -> Iterator[Any]:
    """Provide the stock client, connected to a real server."""
    with running(make_app(MODEL, limits=LIMITS)) as url:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        yield client
        client.close()


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(make_app(MODEL, limits=LIMITS), base_url=LOCAL) as client:
        yield client


def tensors(body: dict[str, Any], binary: bool) -> list[Any]:
    """Return the input tensors of a request for samples."""
    inputs = []
    for name, value in body.items():
        whole = isinstance(value, int)
        one = triton.InferInput(name, [1], "INT64" if whole else "BYTES")
        one.set_data_from_numpy(np.array([value], np.int64 if whole else np.object_), binary_data=binary)
        inputs.append(one)
    return inputs


def test_the_stock_client_finds_server_and_model(stock: Any) -> None:
    assert stock.is_server_live() and stock.is_server_ready() and stock.is_model_ready(MODEL.name)
    assert "binary_tensor_data" in stock.get_server_metadata()["extensions"]
    about = stock.get_model_metadata(MODEL.name)
    assert {one["name"] for one in about["inputs"]} == {"num", "seed", "steps", "policy", "solver", "grid"}
    assert about["outputs"][0]["shape"] == [-1, MODEL.length, 2]
    with pytest.raises(triton.InferenceServerException, match="'test', not 'other'"):
        stock.get_model_metadata("other")


@pytest.mark.parametrize("inwards", [True, False])
@pytest.mark.parametrize("outwards", [True, False, None])
def test_the_stock_client_draws_samples_in_json_and_binary(
    stock: Any, inwards: bool, outwards: bool | None
) -> None:
    names = ("samples", "channels", "token_share")
    wanted = [triton.InferRequestedOutput(name, binary_data=outwards) for name in names]
    result = stock.infer(
        MODEL.name, tensors(BODY, inwards), outputs=None if outwards is None else wanted, request_id="7"
    )
    np.testing.assert_allclose(result.as_numpy("samples"), expected(BODY), rtol=1e-5, atol=1e-6)
    assert result.as_numpy("samples").dtype == np.float32 and result.get_response()["id"] == "7"
    channels = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("channels")]
    assert channels == ["c0", "c1"] and 0 < result.as_numpy("token_share")[0] < 1


def test_a_policy_may_be_stated_in_full_and_what_is_left_out_takes_the_defaults(stock: Any) -> None:
    policy = json.loads(PRESETS["fast"].to_json())
    policy.pop("schema")
    result = stock.infer(MODEL.name, tensors(BODY | {"policy": json.dumps(policy)}, True))
    np.testing.assert_allclose(result.as_numpy("samples"), expected(BODY), rtol=1e-5, atol=1e-6)
    assert stock.infer(MODEL.name, tensors({"steps": 12}, False)).as_numpy("samples").shape[0] == 1


def test_the_stock_client_is_told_what_is_wrong(stock: Any) -> None:
    for change, words in ({"num": 9}, "less than or equal to 8"), ({"solver": "rk45"}, "solver"):
        with pytest.raises(triton.InferenceServerException, match=words) as refused:
            stock.infer(MODEL.name, tensors(BODY | change, True))
        assert refused.value.status() == "422"
    with pytest.raises(triton.InferenceServerException, match="stated twice"):
        stock.infer(MODEL.name, [*tensors({"num": 1}, True), *tensors({"num": 2}, True)])
    with pytest.raises(triton.InferenceServerException, match="not ready within") as late:
        stock.infer(MODEL.name, tensors(BODY | {"steps": 200, "num": 8}, True), timeout=10_000)
    assert late.value.status() == "504"


def test_a_full_server_is_not_ready(client: TestClient) -> None:
    paths = ("/v2/health/ready", f"/v2/models/{MODEL.name}/ready")
    assert [client.get(path).json() for path in paths] == [{"ready": True}] * 2
    with held(client.app.state.queue):  # type: ignore[attr-defined]
        assert [client.get(path).status_code for path in paths] == [503, 503]
        refused = client.post(INFER, json={"inputs": []})
        assert refused.status_code == 429 and "try again" in refused.json()["error"]


def test_the_protocol_asks_for_the_token_too() -> None:
    with TestClient(make_app(MODEL, limits=LIMITS, token="secret"), base_url=LOCAL) as client:
        assert client.post(INFER, json={"inputs": []}).status_code == 401
        allowed = client.post(INFER, json={"inputs": []}, headers={"Authorization": "Bearer secret"})
        assert allowed.status_code == 200 and allowed.json()["model_name"] == MODEL.name


NUM = {"name": "num", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}}


@pytest.mark.parametrize(
    ("inputs", "length", "data"),
    [
        ([NUM], None, b"\1\0\0\0"),
        ([NUM], None, bytes(9)),
        ([NUM], "0", bytes(8)),
        ([NUM], "9999", bytes(8)),
        ([NUM], "-1", bytes(8)),
        ([NUM | {"datatype": "FP8"}], None, bytes(8)),
        ([NUM | {"datatype": "BYTES", "name": "solver"}], None, b"\xff\xff\xff\xffddim"),
        ([NUM | {"datatype": "BYTES", "name": "solver"}], None, b"\4\0\0\0\xff\xfe\xfd\xfc"),
        ([NUM | {"parameters": {"binary_data_size": -8}}], None, bytes(8)),
        ([NUM | {"parameters": {"binary_data_size": "8"}}], None, bytes(8)),
        ([NUM | {"datatype": []}], None, bytes(8)),
        ([3], None, b"x"),
        ({}, None, b"x"),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(
    client: TestClient, inputs: Any, length: str | None, data: bytes
) -> None:
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    answer = client.post(INFER, content=head + data, headers=headers)
    assert answer.status_code == 422, answer.text


def test_a_float64_model_answers_in_float32(client: TestClient) -> None:
    assert MODEL.dtype == torch.float64
    answer = client.post(INFER, json={"inputs": [], "outputs": [{"name": "samples"}]}).json()
    assert [one["datatype"] for one in answer["outputs"]] == ["FP32"]
