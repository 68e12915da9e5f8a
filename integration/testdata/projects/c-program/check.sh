#!/bin/sh
set -e
test "$("$1" 30 | tr '\n' ' ')" = "2 3 5 7 11 13 17 19 23 29 "
! "$1" 2>/dev/null
echo checked > checked
