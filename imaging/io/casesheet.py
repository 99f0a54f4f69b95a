"""cases.csv: which patient each picture belongs to, and what else people know about it.

A header line with `file` and, if wanted, `patient`, `label` (or `labels`, `label_2`, …) and any
further columns, which become metadata. Commas, semicolons or tabs; UTF-8. A cell of a label
column may hold several names with `|` between them. `file` is the path below rawdata, or the
bare file name when that is enough; of a DICOM series it may be the folder.

Columns `case` and `channel` together say which files are one case of several channels (T1, T2,
FLAIR), and `label` as the channel which one is its label map. Either of them alone is metadata.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from imaging.errors import RecordError

SHEET_NAME = "cases.csv"
MAX_BYTES = 64 << 20
LABEL_COLUMN = re.compile(r"labels?([ _-]?\d+)?")
CASE_COLUMNS = frozenset({"case", "channel"})
LABEL_CHANNELS = frozenset({"label", "labels", "seg", "mask"})  # no channel, but the label map
DELIMITERS = (",", ";", "\t")
HINT = (
    "Save it as 'CSV UTF-8' with a header line `file,patient,…` and one line per picture, "
    "and drop it in rawdata again."
)


@dataclass(frozen=True, slots=True)
class CaseRow:
    """What the sheet says about one picture."""

    file: str  # path below rawdata, or a bare name; a key to look up, never opened
    patient: str  # as people wrote it; empty = not given
    labels: tuple[str, ...]  # empty = not labelled
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    case: str = ""  # groups the files of one volume of several channels; empty = a case of its own
    channel: str = ""  # which of them this is

    @property
    def is_label_map(self) -> bool:
        return bool(self.case) and self.channel.lower() in LABEL_CHANNELS


@dataclass(frozen=True, slots=True)
class CaseSheet:
    """A whole cases.csv; build it with `parse_case_sheet`."""

    rows: Mapping[str, CaseRow]  # by normalised file

    def find(self, path: str) -> CaseRow | None:
        """The row of a picture: by its path below rawdata, else by its bare name.

        A bare name says nothing certain when several pictures have it: see `goes_by_name`.
        """
        key = _key(path)
        return self.rows.get(key) or self.rows.get(key.rsplit("/", 1)[-1])

    def find_folder(self, path: str) -> CaseRow | None:
        """The row of the nearest folder, on the way to a file, that the sheet names by its path."""
        folders = _key(path).split("/")[:-1]
        ways = ("/".join(folders[:depth]) for depth in range(len(folders), 0, -1))
        return next((self.rows[way] for way in ways if way in self.rows), None)

    def goes_by_name(self, path: str) -> bool:
        """Whether the row of a picture is found by its bare name only."""
        return _key(path) not in self.rows and self.find(path) is not None

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label that occurs, sorted."""
        return tuple(sorted({label for row in self.rows.values() for label in row.labels}))

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that cases are made of, as they come up first; empty = no such columns."""
        found = (row.channel for row in self.rows.values() if row.case and not row.is_label_map)
        return tuple(dict.fromkeys(found))

    @property
    def is_multi_label(self) -> bool:
        return any(len(row.labels) > 1 for row in self.rows.values())


def parse_case_sheet(data: bytes) -> CaseSheet:
    """The sheet in the bytes of a cases.csv.

    Raises:
        RecordError: it is too large, is not UTF-8, lacks the `file` column, has a line with too
            many fields or without a file, or says two different things about one file. Lines are
            named by number, never by content.
    """
    text = _text(data)
    delimiter = _delimiter(text)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise RecordError(f"{SHEET_NAME}: {error}", hint=HINT) from error
    columns = [cell.strip().lower() for cell in lines[0]]
    named = [column for column in columns if column]  # spreadsheets add empty columns at the end
    if len(set(named)) != len(named):
        raise RecordError(f"{SHEET_NAME}: a column name occurs twice", hint=HINT)
    rows: dict[str, CaseRow] = {}
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        row = _row(columns, cells, number)
        key = _key(row.file)
        if rows.setdefault(key, row) != row:
            raise RecordError(
                f"{SHEET_NAME}: line {number} says something else about a file than an earlier "
                "line (files of the same name in two folders need their folder)",
                hint=HINT,
            )
    return CaseSheet(rows)


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise RecordError(
            f"{SHEET_NAME}: {len(data)} bytes, expected at most {MAX_BYTES}", hint=HINT
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{SHEET_NAME}: byte {error.start} is not UTF-8 text", hint=HINT
        ) from error
    if "\x00" in text:
        raise RecordError(f"{SHEET_NAME}: holds zero bytes, so it is not text", hint=HINT)
    if not text.strip():
        raise RecordError(f"{SHEET_NAME}: is empty", hint=HINT)
    return text


def _delimiter(text: str) -> str:
    header = text.splitlines()[0]
    for delimiter in DELIMITERS:
        if "file" in [cell.strip().strip('"').lower() for cell in header.split(delimiter)]:
            return delimiter
    raise RecordError(f"{SHEET_NAME}: the first line has no column `file`", hint=HINT)


def _row(columns: list[str], cells: list[str], number: int) -> CaseRow:
    if len(cells) > len(columns):
        raise RecordError(
            f"{SHEET_NAME}: line {number} has {len(cells)} fields, the header {len(columns)}",
            hint=HINT,
        )
    # Spreadsheets leave out empty cells at the end of a line.
    record = dict(zip(columns, [*cells, *[""] * (len(columns) - len(cells))], strict=True))
    record = {column: cell.strip() for column, cell in record.items() if column}
    file = record.pop("file")
    if not file:
        raise RecordError(f"{SHEET_NAME}: line {number} names no file", hint=HINT)
    labels: dict[str, None] = {}  # a set that keeps its order
    for column in [column for column in record if LABEL_COLUMN.fullmatch(column)]:
        labels |= {name.strip(): None for name in record.pop(column).split("|") if name.strip()}
    patient = record.pop("patient", "")
    case = channel = ""
    if record.keys() >= CASE_COLUMNS:
        case, channel = record.pop("case"), record.pop("channel")
        if bool(case) != bool(channel):
            raise RecordError(
                f"{SHEET_NAME}: line {number} has a case without a channel, or the reverse",
                hint=HINT,
            )
    metadata = {column: cell for column, cell in record.items() if cell}
    return CaseRow(file, patient, tuple(labels), MappingProxyType(metadata), case, channel)


def _key(path: str) -> str:
    """One spelling for one path: Windows separators, `./`, and macOS's decomposed letters."""
    plain = unicodedata.normalize("NFC", path).replace("\\", "/")
    return plain.removeprefix("./").removeprefix("rawdata/").rstrip("/")
