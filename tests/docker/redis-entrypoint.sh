#!/bin/sh
# The official image's contract, with Debian's Redis: options alone mean the server, which runs as
# the user redis.
set -eu
case ${1:-} in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    chown -R redis: .
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi
exec "$@"
