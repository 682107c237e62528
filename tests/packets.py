"""Read packets of the live feed as the browser does."""

import json
import struct

import numpy as np


def decode(packet: bytes):
    """Return the header and the arrays of a packet."""
    assert packet[:4] == b"E2P1"
    (length,) = struct.unpack_from("<I", packet, 4)
    head = json.loads(packet[8 : 8 + length])
    arrays = {}
    for name, kind, shape, offset in head["arrays"]:
        start = 8 + length + offset
        assert start % 8 == 0
        dtype = np.dtype({"u1": "u1", "f4": "<f4"}[kind])
        arrays[name] = np.frombuffer(packet, dtype, int(np.prod(shape)), start).reshape(shape)
    return head, arrays


def canvas_packets(at):
    """Return the decoded packets of a page's components; components without a packet are omitted."""
    packets = (c.proto.bytes for c in at.get("bidi_component"))
    return [decode(packet) for packet in packets if packet]
