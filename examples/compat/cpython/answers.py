"""Prints what every Python 3 prints alike: numbers, texts, digests, files, errors."""

import base64
import collections
import datetime
import decimal
import hashlib
import json
import os
import re
import statistics
import zlib

here = os.path.dirname(os.path.abspath(__file__))
print("prime", 2**521 - 1)
print("pi", sum(decimal.Decimal(1) / 16**k * (
    decimal.Decimal(4) / (8 * k + 1) - decimal.Decimal(2) / (8 * k + 4)
    - decimal.Decimal(1) / (8 * k + 5) - decimal.Decimal(1) / (8 * k + 6)) for k in range(30)))
print("floats", 0.1 + 0.2, (2**0.5).hex(), float("nan"), 1e308 * 10)
text = "the quick brown fox jumps over the lazy dog " * 40
for name in ("md5", "sha1", "sha256", "sha3_256", "blake2b"):
    print(name, hashlib.new(name, text.encode()).hexdigest())
print("zlib", len(zlib.decompress(zlib.compress(text.encode(), 9))), zlib.crc32(text.encode()))
print("words", collections.Counter(re.findall(r"\w+", text)).most_common(3))
print("json", json.dumps({"b": [1, 2.5, None, True], "a": "grüße"}, sort_keys=True))
print("dates", datetime.date(2024, 2, 29) + datetime.timedelta(days=366), base64.b64encode(b"\x00\xff"))
print("mean", statistics.mean([1, 2, 3, 4]), sorted("hello", reverse=True))

with open(os.path.join(here, "written.txt"), "w") as file:
    file.writelines(f"line {i}\n" for i in range(1000))
os.rename(os.path.join(here, "written.txt"), os.path.join(here, "renamed.txt"))
with open(os.path.join(here, "renamed.txt")) as file:
    lines = file.readlines()
print("file", len(lines), lines[-1].strip(), os.path.getsize(os.path.join(here, "renamed.txt")))
os.mkdir(os.path.join(here, "folder"))
print("folder", sorted(name for name in os.listdir(here) if not name.startswith(".")))
os.rmdir(os.path.join(here, "folder"))
for path in ("/no/such/file", os.path.join(here, "folder", "gone")):
    try:
        open(path)
    except OSError as error:
        print("refused", type(error).__name__)
try:
    1 // 0
except ZeroDivisionError as error:
    print("error", error)
