#!/bin/sh
# At the server's first start: for each application a role, and a database that nobody else may enter.
# May run again at any time: it then sets the passwords to what the files say, and changes no data.
(
    set -eu
    for name in label-studio nextcloud; do
        secret=/run/secrets/$name-db-password
        [ -s "$secret" ] || { echo "$secret is missing or empty, expected a password" >&2; exit 1; }
        # psql reads the password from its file: no command line, no environment and no log holds it.
        SECRET=$secret psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=name="$name" \
            --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\set password `cat "$SECRET"`
SELECT format('CREATE ROLE %I', :'name')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
    done
)
