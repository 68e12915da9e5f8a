# shellcheck shell=sh
# A picture of four by two is halved to two by one.
set -eu
got=$(printf 'P2\n# a comment\n4 2\n255\n0 4 8 12\n0 4 8 12\n' | /srv/thumbnail | tr '\n' ' ')
want='P2 2 1 255 2 10 '
[ "$got" = "$want" ] || { echo "FAIL got $got, want $want"; exit 1; }
if echo P5 | /srv/thumbnail 2>/dev/null; then echo "FAIL a binary picture is taken"; exit 1; fi
echo "worker: 2 pictures, 0 failures"
