#!/bin/sh
set -e
# a flag, or a word that is no command: arguments of node
case "${1:-}" in
  -*) set -- node "$@" ;;
  ?*) command -v "$1" >/dev/null 2>&1 || set -- node "$@" ;;
esac
exec "$@"
