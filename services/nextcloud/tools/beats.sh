#!/bin/sh
# Is the loop of every.sh well? One line of reason; exits 0 or 1.
TMP=${LABLOOP_TMP:-/tmp}
SLACK_S=300 # the first scan of a share with 100k files takes minutes

if [ ! -f "$TMP/heartbeat" ] || [ ! -f "$TMP/every" ]; then
    echo "the loop has not begun"
    exit 1
fi
limit_s=$(($(cat "$TMP/every") * 2 + SLACK_S))
age_s=$(($(date +%s) - $(stat -c %Y "$TMP/heartbeat")))
if [ "$age_s" -gt "$limit_s" ]; then
    echo "no heartbeat for $age_s s, expected one within $limit_s s: the command hangs"
    exit 1
fi
if [ -s "$TMP/heartbeat" ]; then
    cat "$TMP/heartbeat"
    exit 1
fi
echo "ok"
