#!/bin/sh
# Run a command again and again: every.sh SECONDS COMMAND [WORD …]
#
# The heartbeat is a file: touched while all goes on, empty when all is well, else with the reason.
# beats.sh reads it. While the command runs nothing touches it, so that one that hangs is noticed.
set -u
EVERY_S=$1
shift
ROOM=${LABLOOP_ROOM:-/var/www/html}
TMP=${LABLOOP_TMP:-/tmp}
RETRY_S=${LABLOOP_RETRY_S:-10}
BEAT=$TMP/heartbeat
child=

say() { echo "labloop: $*"; }
beat() { printf '%s' "$1" >"$BEAT.part" && mv "$BEAT.part" "$BEAT"; }

# A command that is running may finish its step for five seconds.
end() {
    trap '' TERM INT
    left=50
    while [ -n "$child" ] && [ "$left" -gt 0 ] && kill -0 "$child" 2>/dev/null; do
        sleep 0.1
        left=$((left - 1))
    done
    [ -z "$child" ] || kill "$child" 2>/dev/null
    exit 0
}
trap end TERM INT

# Sleep in short steps: a signal is answered at once, and the heartbeat stays fresh.
rest() {
    left=$1
    while [ "$left" -gt 0 ]; do
        step=$((left < 5 ? left : 5))
        sleep "$step" &
        wait $!
        left=$((left - step))
        touch "$BEAT"
    done
}

# Why Nextcloud cannot be worked with; nothing when it can.
obstacle() {
    case $(php "$ROOM/occ" status --output=json 2>/dev/null | tail -n 1) in
        *'"needsDbUpgrade":true'*) echo "Nextcloud's database is being upgraded" ;;
        *'"maintenance":true'*) echo "maintenance mode is on" ;;
        *'"installed":true'*) ;;
        *) echo "Nextcloud is not installed yet" ;;
    esac
}

run() {
    begun=$(date +%s)
    "$@" >"$TMP/output" 2>&1 &
    child=$!
    wait "$child"
    code=$?
    child=
    if [ "$code" -eq 0 ]; then
        beat ""
        [ -z "$last" ] || say "all is well again"
        last=
        return 0
    fi
    words=$(grep -v '^ *$' "$TMP/output" | tail -n 1)
    last="ended with $code after $(($(date +%s) - begun)) s: $words"
    beat "$last"
    say "$last"
    return 1
}

umask 0002
last=
echo "$EVERY_S" >"$TMP/every"
beat "not run yet"
# Sidecars that start together should not work together. The host name differs in each container;
# the process number does not.
rest $(($(hostname | cksum | cut -d ' ' -f 1) % 6 * (EVERY_S > 30)))
while :; do
    reason=$(obstacle)
    if [ -n "$reason" ]; then
        [ "$reason" = "$last" ] || say "waiting: $reason"
        last=$reason
        beat "waiting: $reason"
        rest "$RETRY_S"
    elif run "$@"; then
        rest $((EVERY_S + EVERY_S * ($(date +%s) % 10) / 100)) # up to a tenth later each time
    else
        rest $((EVERY_S < 30 ? EVERY_S : 30))
    fi
done
