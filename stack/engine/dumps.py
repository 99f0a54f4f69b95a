"""The databases, as dumps: made by the server's own programs, inside its container.

Rows are counted in the transaction whose state the dump shows, so that a restore can be held
against the numbers, however busy the stack was.
"""

from collections.abc import Callable
from typing import Protocol

from stack.engine.manifest import Database
from stack.errors import StackError

DATABASES = ("label-studio", "nextcloud")
FOLDER = "/dumps"
FIELD = "|"
COUNT = f"""
SELECT 'server{FIELD}' || current_setting('server_version_num');
SELECT 'table{FIELD}' || table_schema || '.' || table_name || '{FIELD}' || (xpath('/row/n/text()',
    query_to_xml(format('SELECT count(*) AS n FROM %I.%I', table_schema, table_name),
    false, true, '')))[1]::text
FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1;
"""
DUMP = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \\gset
\\setenv SNAPSHOT :snapshot
\\! umask 077 && pg_dump --format=custom --compress=none --username=postgres \
--snapshot="$SNAPSHOT" --file={folder}/{name}.part {name} \
&& mv {folder}/{name}.part {folder}/{name}.dump
\\if :SHELL_ERROR
DO $$BEGIN RAISE EXCEPTION 'pg_dump failed'; END$$;
\\endif
{count}
COMMIT;
"""


class Caller(Protocol):
    """What is needed of Compose."""

    def execute(self, service: str, *command: str, input_text: str | None = None) -> str: ...


class OldServerError(StackError):
    """The server cannot read what a newer one wrote."""

    hint = "Take the POSTGRES_IMAGE that the backup was made with, or a newer one."


def dump(compose: Caller, name: str) -> Database:
    """Write one database to the volume `dumps`, not compressed: restic does that, and finds what is
    the same as in the dump before.

    Raises:
        ComposeFailedError: the server does not run, or refused; with its words.
    """
    # Never through the shell of this machine; the name is one of DATABASES.
    script = DUMP.format(folder=FOLDER, name=name, count=COUNT)
    return read_counts(compose.execute("db", *_psql(name), input_text=script))


def count(compose: Caller, name: str) -> Database:
    """The rows of every table, as they are now."""
    return read_counts(compose.execute("db", *_psql(name), input_text=COUNT))


def load(compose: Caller, name: str, tell: Callable[[str], None]) -> None:
    """Fill an empty database from its dump, whole or not at all.

    Raises:
        ComposeFailedError: the server refused; with its words.
    """
    tell(f"database {name}")
    words = ("pg_restore", "--username=postgres", "--exit-on-error", "--single-transaction")
    compose.execute("db", *words, f"--dbname={name}", f"{FOLDER}/{name}.dump")
    compose.execute("db", *_psql(name), input_text="ANALYZE;")  # or the first queries are slow


def check_server(dumped: Database, found: Database) -> None:
    """Refuse a server that is older than the dump's, by major version."""
    if found.server // 10000 < dumped.server // 10000:
        raise OldServerError(
            f"PostgreSQL here is {found.server // 10000}, the backup's {dumped.server // 10000}"
        )


def read_counts(text: str) -> Database:
    """What COUNT's two questions were answered."""
    server, rows = 0, {}
    for line in text.splitlines():
        what, _, rest = line.partition(FIELD)
        if what == "server":
            server = int(rest)
        elif what == "table":
            table, _, number = rest.rpartition(FIELD)
            rows[table.removeprefix("public.")] = int(number)
    return Database(server, rows)


def _psql(database: str) -> tuple[str, ...]:
    options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
    return ("psql", *options, "--username=postgres", f"--dbname={database}", "--file=-")
