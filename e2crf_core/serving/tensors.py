"""Translate the Open Inference Protocol's binary tensors: out of request bodies, and into answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json
from e2crf_core.serving.guards import INFERENCE, Scope

LENGTH = "inference-header-content-length"
TYPES = {"INT32": "<i4", "INT64": "<i8", "UINT32": "<u4", "UINT64": "<u8", "FP32": "<f4", "FP64": "<f8"}


def plain_request(scope: Scope, body: bytes) -> tuple[Scope, bytes]:
    """Return a request of the protocol with its binary tensors as JSON; other requests as they are.

    Clients of the protocol need not state a content type. Raises LabError for tensors that do not fit.
    """
    if not scope["path"].startswith(INFERENCE):
        return scope, body
    headers = dict(scope["headers"])
    length = headers.pop(LENGTH.encode(), b"")
    headers[b"content-type"] = b"application/json"
    if length:
        body = _with_data(body, length)
        headers[b"content-length"] = str(len(body)).encode()
    return {**scope, "headers": list(headers.items())}, body


def _with_data(body: bytes, length: bytes) -> bytes:
    """Return the JSON part of a body with the data of the binary part in its tensors."""
    if not length.isdigit() or not 0 < int(length) <= len(body):
        raise LabError(f"the header {LENGTH} must be the length of the JSON part of the body")
    value, rest = parse_json(body[: int(length)], "the body"), body[int(length) :]
    inputs = value.get("inputs") if isinstance(value, dict) else None
    for tensor in inputs if isinstance(inputs, list) else []:
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        if isinstance(parameters, dict) and "binary_data_size" in parameters:
            size = parameters.pop("binary_data_size")
            if not isinstance(size, int) or not 0 <= size <= len(rest):
                raise LabError("a tensor's binary_data_size must be the number of its bytes in the body")
            tensor["data"] = _values(tensor.get("datatype"), rest[:size])
            rest = rest[size:]
    if rest:
        raise LabError(f"{len(rest)} bytes of the body belong to no tensor")
    return json.dumps(value).encode()


def _values(datatype: object, data: bytes) -> list[Any]:
    """Decode the elements of a tensor; a string follows its length as a 32-bit number."""
    try:
        if datatype == "BYTES":
            texts = []
            while data:
                (size,) = struct.unpack_from("<I", data)
                if 4 + size > len(data):
                    raise ValueError("a string is cut short")
                texts.append(data[4 : 4 + size].decode())
                data = data[4 + size :]
            return texts
        if not isinstance(datatype, str) or datatype not in TYPES:
            raise ValueError("its type is not among those that are read")
        return np.frombuffer(data, TYPES[datatype]).tolist()
    except (ValueError, struct.error) as fault:
        raise LabError(f"a binary tensor of type {str(datatype)[:20]} cannot be read: {fault}") from None


def tensor(name: str, values: np.ndarray, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return the description of an output tensor, and its bytes, which are none if the data is in the first."""
    text = values.dtype.kind == "U"
    kinds = {np.dtype(code): kind for kind, code in TYPES.items()}
    head = {
        "name": name,
        "shape": list(values.shape),
        "datatype": "BYTES" if text else kinds[values.dtype],
    }
    if not binary:
        return head | {"data": values.ravel().tolist()}, b""
    data = _strings(values.ravel().tolist()) if text else np.ascontiguousarray(values).tobytes()
    return head | {"parameters": {"binary_data_size": len(data)}}, data


def _strings(texts: Sequence[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
