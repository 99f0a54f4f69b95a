#!/bin/sh
# How every container starts: what it writes on the share is its group's too, the lab's.
umask 0002
exec "$@"
