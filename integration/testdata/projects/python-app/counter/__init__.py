"""Counts words."""

import collections


def count(lines):
    """Gives (word, number) pairs, the most frequent first."""
    words = collections.Counter(w for line in lines for w in line.split())
    return sorted(words.items(), key=lambda p: (-p[1], p[0]))
