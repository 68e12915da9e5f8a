import sys

from . import count

for word, n in count(sys.stdin):
    print(word, n)
