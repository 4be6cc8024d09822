#!/bin/sh
# In its image the server answers whoever reaches it, unless it is told otherwise; Debian's answers its own machine alone.
set -e
server=/usr/bin/redis-server

case "${1:-}" in
-v | --version | -h | --help | --test-memory | --check-system) exec $server "$@" ;;
'' | --*) exec $server --protected-mode no "$@" ;;
esac

if [ -f "$1" ] && grep -q '^[[:space:]]*protected-mode' "$1"; then
    exec $server "$@"
fi
settings=$1
shift
exec $server "$settings" --protected-mode no "$@"
