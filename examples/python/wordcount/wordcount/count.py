"""Counts words, whatever their case."""

import re
from collections import Counter

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def count_words(text: str) -> Counter[str]:
    # Sorted first, so that words of the same count come in the order of the alphabet.
    return Counter(sorted(word.lower() for word in WORD.findall(text)))
