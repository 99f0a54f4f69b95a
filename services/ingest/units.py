"""Which files of a task of volumes are one case: its channels, and its label map.

Pure rules on paths and cases.csv. A file is a case by itself, unless the task has several channels
(`volume: channels` in task.yaml). Then either cases.csv says which files are one case, or their
names do, as nnU-Net has them: `x_0000.nii.gz`, `x_0001.nii.gz` in the order of the channels.
A number at the end is a channel only then: `amos_0004.nii.gz` is a case.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from imaging.io.casesheet import CaseRow, CaseSheet
from services.ingest.errors import RefusedError
from services.ingest.names import CHANNEL, composed, stem_of
from services.ingest.tree import CHANNEL_0, is_contest_input, place_of

Part = Literal["image", "label", "contest"]
BY_SHEET = "case:"


@dataclass(frozen=True, slots=True)
class Role:
    """What one file is to its case."""

    part: Part
    key: str  # the same for all files of a case
    channel: int = 0


@dataclass(slots=True)
class Unit:
    """The images of one case, by channel."""

    key: str
    paths: dict[int, str] = field(default_factory=dict)
    rivals: bool = False  # two files claim to be the same channel

    @property
    def first(self) -> str:
        return self.paths[min(self.paths)]

    def in_order(self) -> list[str]:
        return [self.paths[channel] for channel in sorted(self.paths)]


class Roles:
    """The rules of one task."""

    def __init__(self, channels: Sequence[str], sheet: CaseSheet | None) -> None:
        """Args: the channels as task.yaml names them, none for one; cases.csv."""
        self.channels, self.sheet = tuple(channels), sheet
        self.count = max(1, len(channels))
        rows = sheet.rows.values() if sheet else ()
        self._cases = {row.case for row in rows if row.case}

    def of(self, path: str) -> Role:
        """What a file is.

        Raises:
            RefusedError: `channel-unknown`: cases.csv names a channel that task.yaml lacks.
        """
        if is_contest_input(path):
            return Role("contest", path)
        row = self.sheet.find(path) if self.sheet else None
        if row is not None and row.case:
            return self.by_sheet(row)
        place = place_of(path)
        if place.is_mask and place.pair is not None:
            named = stem_of(composed(path))
            return Role("label", BY_SHEET + named if named in self._cases else place.pair)
        key = place.pair or "/".join([*composed(path).split("/")[:-1], stem_of(composed(path))])
        base, channel = self._channel(key)
        return Role("image", base, channel)

    def label_keys(self, key: str) -> list[str]:
        """The keys under which the label map of a case may stand: its own, and that of nnU-Net."""
        single = self.count == 1 and key.endswith(CHANNEL_0)
        return [key, key.removesuffix(CHANNEL_0)] if single else [key]

    def image_keys(self, label_key: str) -> list[str]:
        """The keys under which the case of a label map may stand."""
        return [label_key, label_key + CHANNEL_0] if self.count == 1 else [label_key]

    def patient_name(self, key: str) -> str:
        """Who a case belongs to when nobody says so: its name."""
        name = key.removeprefix(BY_SHEET).rsplit("/", 1)[-1]
        return name.removesuffix(CHANNEL_0) or name

    def by_sheet(self, row: CaseRow) -> Role:
        """What a file or series is that cases.csv makes part of a case.

        Raises:
            RefusedError: as `of`.
        """
        key = BY_SHEET + row.case
        if row.is_label_map:
            return Role("label", key)
        lower = [name.lower() for name in self.channels]
        if row.channel.lower() not in lower:
            known = ", ".join(self.channels) or "none"
            raise RefusedError(
                "channel-unknown", f"channel {row.channel!r} in cases.csv; the task knows {known}"
            )
        return Role("image", key, lower.index(row.channel.lower()))

    def _channel(self, key: str) -> tuple[str, int]:
        match = CHANNEL.fullmatch(key)
        if self.count > 1 and match and int(match[2]) < self.count:
            return match[1], int(match[2])
        return key, 0


def units_of(roles: Iterable[tuple[str, Role]], count: int) -> list[Unit]:
    """The images among some files as cases, by key; label maps are passed over.

    Args:
        roles: path and role of each file.
        count: channels of a case; with one, every image is a case, whatever the others' names.
    """
    found: dict[str, Unit] = {}
    for path, role in roles:
        if role.part != "image":
            continue
        unit = found.setdefault(role.key if count > 1 else path, Unit(role.key))
        unit.rivals |= role.channel in unit.paths
        unit.paths.setdefault(role.channel, path)
    return [found[key] for key in sorted(found)]
