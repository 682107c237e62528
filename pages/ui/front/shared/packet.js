// Binary packets from the server: a JSON header and typed arrays (`e2crf_core/io/packet.py` writes them).

const MAGIC = 0x45325031;

export const readPacket = (bytes) => {
  // Typed arrays need alignment, and the bytes arrive at any offset.
  const buffer =
    bytes instanceof ArrayBuffer
      ? bytes
      : bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const view = new DataView(buffer);
  if (view.getUint32(0, false) !== MAGIC) throw new Error("not a packet of the lab");
  const length = view.getUint32(4, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const arrays = {};
  for (const [name, kind, shape, offset] of head.arrays) {
    const size = shape.reduce((a, b) => a * b, 1);
    arrays[name] = new (kind === "u1" ? Uint8Array : Float32Array)(buffer, 8 + length + offset, size);
  }
  return { head, arrays };
};
