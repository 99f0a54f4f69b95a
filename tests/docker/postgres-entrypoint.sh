#!/bin/bash
# The official image's contract, with Debian's PostgreSQL: at the first start initdb and the scripts
# of /docker-entrypoint-initdb.d, against a server that answers on its socket only.
set -euo pipefail

at_first_start() {
    local words=() one
    eval "words=(${POSTGRES_INITDB_ARGS:-})" # as the official one does, quotes and all
    initdb --username="$POSTGRES_USER" --pwfile=<(cat "$POSTGRES_PASSWORD_FILE") "${words[@]}"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --silent --options="-c listen_addresses=''" start
    export PGUSER=$POSTGRES_USER PGDATABASE=$POSTGRES_DB
    [[ $POSTGRES_DB == postgres ]] || createdb --maintenance-db=postgres "$POSTGRES_DB"
    for one in /docker-entrypoint-initdb.d/*; do
        echo "docker-entrypoint.sh: $one"
        case $one in
            *.sh) if [[ -x $one ]]; then "$one"; else . "$one"; fi ;;
            *.sql) psql --no-psqlrc --no-password --set=ON_ERROR_STOP=1 --file="$one" ;;
        esac
    done
    pg_ctl --wait --silent --mode=fast stop
    unset PGUSER PGDATABASE
}

if [[ ${1:-} == postgres ]]; then
    if ((EUID == 0)); then
        install -d -o postgres -g postgres -m 3777 /var/run/postgresql
        chown -R postgres: "$PGDATA"
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
    fi
    mkdir -p "$PGDATA" && chmod 700 "$PGDATA"
    export POSTGRES_USER=${POSTGRES_USER:-postgres}
    export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
    [[ -s $PGDATA/PG_VERSION ]] || at_first_start
fi
exec "$@"
