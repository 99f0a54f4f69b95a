"""All versions of a task's model in order, by what they did on the same held-out cases.

Nothing is computed: a run's metrics.json says how its candidate did and, on the same cases, how the
champion of the day did. Versions that were measured on other cases, or by another truth, cannot be
ranked among the rest; they follow without a rank.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from imaging.dataset.snapshot import read_snapshot
from imaging.errors import ImagingError, RecordError
from imaging.layout import Nas, RunFolder
from imaging.publish import read_json
from imaging.registry import BUNDLE_RECORD, Version, champion, versions
from imaging.runs import list_runs

Figures = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One version on the held-out cases of one snapshot."""

    version: str
    snapshot: str
    figures: Figures
    cases: int | None = None  # None: only the bundle says how it did
    patients: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """One version's place."""

    rank: int | None  # None: not measured, or on other cases
    version: str
    is_champion: bool
    made_at: str
    run: str
    measured: Measurement | None
    note: str = ""  # why there is no rank


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The versions, best first, then those without a rank, newest first."""

    task: str
    snapshot: str | None  # on whose held-out cases; None: nothing was measured yet
    measure: str  # the figure that decides: "mean Dice", "AUROC"
    standings: tuple[Standing, ...]

    def to_json(self) -> dict[str, Any]:
        return {"format": 1} | asdict(self)


def leaderboard(nas: Nas, task: str) -> Leaderboard:
    """The versions of a task's model, ranked on the newest snapshot that one was measured on.

    Raises:
        RegistryError: the champion's pointer cannot be read.
    """
    known = versions(nas, task)
    by_version: dict[str, list[Measurement]] = {one.version: _of_bundle(one) for one in known}
    for run in list_runs(nas, task):
        for found in _of_run(run):
            if found.version in by_version:
                by_version[found.version].append(found)
    every = [one for found in by_version.values() for one in found]
    newest = max((one.snapshot for one in every), default=None)
    measure = next((name for one in every if one.snapshot == newest for name in one.figures), "")
    same = _SameCases(nas, task, newest)
    current = champion(nas, task)
    serving = current.version if current else None
    places = [_standing(one, by_version[one.version], same, serving) for one in known]
    return Leaderboard(task, newest, measure, tuple(_ranked(places, measure)))


class _SameCases:
    """Whether a snapshot has the held-out cases, and the truth about them, of the newest one."""

    def __init__(self, nas: Nas, task: str, newest: str | None) -> None:
        self._nas, self._task, self._newest = nas, task, newest
        self._seen: dict[str, object] = {}

    def holds(self, snapshot: str) -> bool:
        if snapshot == self._newest:
            return True
        content = self._content(snapshot)
        return content is not None and content == self._content(str(self._newest))

    def _content(self, name: str) -> object:
        if name not in self._seen:
            try:
                snapshot = read_snapshot(self._nas.task(self._task).snapshot(name))
                cases = {
                    (one.case, one.image_sha256, one.labels_sha256, one.classes)
                    for one in snapshot.of("test")
                }
                self._seen[name] = (snapshot.scheme.names, snapshot.multi_label, cases)
            except ImagingError:  # gone or unreadable: nothing is known about its cases
                self._seen[name] = None
        return self._seen[name]


def _standing(
    version: Version, found: list[Measurement], same: _SameCases, serving: str | None
) -> Standing:
    fitting = [one for one in found if same.holds(one.snapshot)]
    # What a run measured says on how many cases; the bundle repeats only the figures.
    best = max(fitting or found, key=lambda one: (one.snapshot, one.cases or 0), default=None)
    note = version.trouble
    if best is None:
        note = note or "not measured on held-out cases"
    elif not fitting:
        note = f"measured on other cases, those of {best.snapshot}"
    return Standing(
        rank=None,
        version=version.version,
        is_champion=version.version == serving,
        made_at=version.made_at,
        run=version.run,
        measured=best,
        note=note,
    )


def _ranked(places: list[Standing], measure: str) -> Iterator[Standing]:
    def value(one: Standing) -> float | None:
        return one.measured.figures.get(measure) if one.measured and not one.note else None

    ranked = [one for one in places if value(one) is not None]
    ranked.sort(key=lambda one: (-(value(one) or 0.0), one.version))
    for one in ranked:
        rank = 1 + sum((value(other) or 0.0) > (value(one) or 0.0) for other in ranked)
        yield replace(one, rank=rank)
    rest = [one for one in places if value(one) is None]
    yield from sorted(rest, key=lambda one: one.version, reverse=True)


def _of_bundle(version: Version) -> list[Measurement]:
    """What labloop.json says, where it says something."""
    try:
        snapshot = str(read_json(version.folder / BUNDLE_RECORD).get("snapshot", ""))
    except RecordError:
        return []
    return [Measurement(version.version, snapshot, version.metrics)] if version.metrics else []


def _of_run(run: RunFolder) -> Iterator[Measurement]:
    """The two sides of a run's metrics.json; none when it is absent or unusable."""
    try:
        record = read_json(run.metrics)
        for side in (record["candidate"], record.get("champion")):
            if side is not None and side["summary"]:
                yield Measurement(
                    version=str(side["version"]),
                    snapshot=str(record["snapshot"]),
                    figures=dict(side["summary"]),
                    cases=len(side["scores"]),
                    patients=len({score["patient"] for score in side["scores"]}),
                )
    except (RecordError, KeyError, TypeError, AttributeError):
        return
