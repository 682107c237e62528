"""Packets of the live feed, read as the browser reads them."""

import json
import struct

import numpy as np


def decode(packet: bytes):
    """Header and arrays of a packet."""
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
    """Packets handed to the components of a page, decoded; components that were given nothing are left out."""
    packets = (c.proto.bytes for c in at.get("bidi_component"))
    return [decode(packet) for packet in packets if packet]
