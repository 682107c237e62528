"""The server against its own OpenAPI schema: requests from schemathesis are answered as documented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from e2crf_core.serving.requests import Limits
from e2crf_core.serving.server import make_app
from tests.conftest import make_model
from tests.test_serve import running
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """Provide the schema of a real server whose model is so small that every example is answered at once."""
    app = make_app(make_model(16, 1, dtype=torch.float32), limits=Limits(num=2, steps=20))
    with running(app) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_server_keeps_to_its_schema(api: Any, mode: GenerationMode) -> None:
    """Valid and invalid requests get a response with the documented status, type and body."""
    seen: Counter[str] = Counter()
    for found in api.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def keeps(case: Any) -> None:
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
                # A deadline that passes is answered with 504, which counts as a fault of the server here.
                case.body.pop("deadline_s", None)
            case.call_and_validate(timeout=PATIENCE_S)
            seen[case.path] += 1

        try:
            keeps()
        except Unsatisfiable:
            assert operation.method == "get" and mode is GenerationMode.NEGATIVE
    assert seen["/samples"] >= 20 and seen["/events"] >= 20
