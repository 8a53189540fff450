"""The world `words` in Python: built by componentize-py."""

import re
from collections import Counter

import wit_world
from wit_world import Counted


class WitWorld(wit_world.WitWorld):
    def count(self, text: str) -> list[Counted]:
        counts = Counter(re.findall(r"[^\W\d_]+", text.lower()))
        order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [Counted(word, times) for word, times in order]
