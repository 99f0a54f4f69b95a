#!/bin/sh
# Is Nextcloud well? One line of reason; exits 0 or 1.
# By the name localhost: to any other that is no trusted domain it answers 400.
URL=http://localhost/status.php

set -- --noproxy '*' --silent --show-error --max-time 8 --write-out ' HTTP %{http_code}'
answer=$(curl "$@" "$URL" 2>&1) || {
    echo "no answer from $URL: $answer"
    exit 1
}
case $answer in
    *'"installed":'*) ;;
    *)
        found=$(printf '%s' "$answer" | tr '\n' ' ' | tail -c 120)
        echo "expected Nextcloud's status from $URL, found:$found; its log may tell why"
        exit 1
        ;;
esac
case $answer in
    *'"installed":false'*) echo "Nextcloud is not installed" ;;
    *'"needsDbUpgrade":true'*) echo "the database is older than Nextcloud; a restart upgrades it" ;;
    *'"maintenance":true'*) echo "maintenance mode is on; occ maintenance:mode --off ends it" ;;
    *) echo "ok" && exit 0 ;;
esac
exit 1
