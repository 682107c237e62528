"""Store a policy as a field of a larger JSON document: run archives, policy cards."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from e2crf_core.caching.policy import CachePolicy


def policy_value(policy: CachePolicy) -> dict[str, Any]:
    """Return the JSON object of a policy."""
    value: dict[str, Any] = json.loads(policy.to_json())
    return value


def _policy(stored: object) -> CachePolicy:
    return stored if isinstance(stored, CachePolicy) else CachePolicy.from_json(json.dumps(stored))


PolicyJson = Annotated[CachePolicy, PlainValidator(_policy), PlainSerializer(policy_value)]
"""Field type that reads what `policy_value` writes and lists every fault of a policy."""
