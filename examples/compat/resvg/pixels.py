"""Colours of points of a PNG with eight bits a channel: `pixels.py FILE X,Y…`, one RRGGBBAA a line."""

import struct
import sys
import zlib

data = open(sys.argv[1], "rb").read()
assert data[:8] == b"\x89PNG\r\n\x1a\n"
at, packed = 8, b""
while at < len(data):
    length, kind = struct.unpack(">I4s", data[at : at + 8])
    body = data[at + 8 : at + 8 + length]
    assert zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0]
    if kind == b"IHDR":
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
        assert (depth, colour, interlaced) == (8, 6, 0), (depth, colour, interlaced)
    if kind == b"IDAT":
        packed += body
    at += 12 + length

raw, stride, rows = zlib.decompress(packed), 4 * width, [bytearray(4 * width)]
for y in range(height):
    start = y * (stride + 1)
    filter_, line, above = raw[start], bytearray(raw[start + 1 : start + 1 + stride]), rows[-1]
    for i in range(stride):
        left = line[i - 4] if i >= 4 else 0
        corner = above[i - 4] if i >= 4 else 0
        near = left + above[i] - corner
        paeth = min((left, above[i], corner), key=lambda v: abs(near - v))
        line[i] = (line[i] + (0, left, above[i], (left + above[i]) // 2, paeth)[filter_]) & 255
    rows.append(line)

for point in sys.argv[2:]:
    x, y = map(int, point.split(","))
    print(rows[y + 1][4 * x : 4 * x + 4].hex())
