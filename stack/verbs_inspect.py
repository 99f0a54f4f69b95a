"""The verb `inspect`: what ingest would make of a file or folder. Needs no home and no lab."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack import console
from stack.errors import UsageError
from stack.home import Home
from stack.verbs_data import Parsers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imaging.io.survey import FoundCase, FoundLabels, NotFound, Survey

FILES_SHOWN = 3
REFUSED = 3  # the exit code


def register(verbs: Parsers[argparse.ArgumentParser]) -> None:
    """Add this module's verb to the command line."""
    inspect = verbs.add_parser("inspect", help="what ingest would make of a file or folder")
    inspect.add_argument("path", metavar="PATH", type=Path)
    inspect.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    inspect.set_defaults(act=inspect_path)


def inspect_path(args: argparse.Namespace, home: Home) -> int:
    """Read everything and tell; exit code 3 where something would be refused."""
    from imaging.io.survey import survey

    if not args.path.exists():
        raise UsageError(f"{args.path} is not there", hint="Name a file or a folder.")
    progress = None if args.json else console.Progress(f"reading {args.path}")
    found = survey(args.path, lambda count: progress.tell(f"{count} files") if progress else None)
    if progress is not None:
        progress.finish(_counts(found))
    root = args.path if args.path.is_dir() else args.path.parent
    if args.json:
        console.say(json.dumps(_record(found, root), ensure_ascii=False, indent=1))
    else:
        for line in _lines(found, root):
            console.say(line)
    return REFUSED if found.refused else 0


def _counts(found: Survey) -> str:
    refused = sum(len(one.files) for one in found.refused)
    return (
        f"{_many(len(found.cases), 'case')}, {_many(len(found.labels), 'label source')}, "
        f"{_many(refused, 'file')} refused"
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _lines(found: Survey, root: Path) -> Iterator[str]:
    for number, case in enumerate(found.cases, start=1):
        yield f"case {number}: {case.kind} {_files(case.files, root)}"
        yield from (f"  {line}" for line in _about(case))
    for labels in found.labels:
        of = "of none of them" if labels.case is None else f"of case {labels.case + 1}"
        yield f"labels {of}: {labels.kind} {_files([labels.file], root)}"
        yield f"  {_contents(labels)}"
    for one in found.refused:
        yield f"refused ({one.reason}): {_files(one.files, root)}"
        yield f"  {one.text}"
        if one.hint:
            yield f"  {one.hint}"
    if found.passed_over:
        yield f"passed over: {_files(found.passed_over, root)}"


def _about(case: FoundCase) -> Iterator[str]:
    what = f"{' × '.join(map(str, case.shape))} {'voxels' if case.grid else 'pixels'}"
    channels = f", {case.channels} channels" if case.channels > 1 else ""
    modality = f"{case.modality}, " if case.modality else ""
    yield f"{modality}{what}{channels}, {case.type}, values {case.low:g} to {case.high:g}"
    if case.grid is not None:
        spacing = " × ".join(f"{edge:.4g}" for edge in case.grid.spacing_mm)
        oblique = f", oblique by {case.oblique_deg:.1f}°" if case.oblique_deg > 0.1 else ""
        yield f"{spacing} mm (XYZ), stored as {case.grid.codes}{oblique}"
        for row in case.grid.affine.tolist()[:3]:
            yield "  [" + " ".join(f"{number:11.4f}" for number in row) + "]"
    yield from (f"note: {note}" for note in case.notes)


def _contents(labels: FoundLabels) -> str:
    if labels.names:
        return ", ".join(labels.names)
    return f"values {', '.join(map(str, labels.values))}" if labels.values else "nothing in it"


def _files(files: Sequence[Path], root: Path) -> str:
    shown = ", ".join(_name(file, root) for file in files[:FILES_SHOWN])
    return shown if len(files) <= FILES_SHOWN else f"{shown}, … ({len(files)} files)"


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix().encode("utf-8", "replace").decode()


def _record(found: Survey, root: Path) -> dict[str, Any]:
    return {
        "format": 1,
        "cases": [_case_record(case, root) for case in found.cases],
        "labels": [
            {"kind": one.kind, "file": _name(one.file, root), "case": one.case,
             "names": list(one.names), "values": list(one.values)}
            for one in found.labels
        ],
        "refused": [_refusal_record(one, root) for one in found.refused],
        "refused_by_reason": dict(
            sum((Counter({one.reason: len(one.files)}) for one in found.refused), Counter())
        ),
        "passed_over": [_name(file, root) for file in found.passed_over],
    }  # fmt: skip


def _case_record(case: FoundCase, root: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "kind": case.kind,
        "files": [_name(file, root) for file in case.files],
        "modality": case.modality,
        "shape": list(case.shape),
        "channels": case.channels,
        "type": case.type,
        "range": [case.low, case.high],
        "notes": list(case.notes),
    }
    if case.grid is not None:
        record |= {
            "spacing_mm": list(case.grid.spacing_mm),
            "affine": case.grid.affine.tolist(),
            "orientation": case.grid.codes,
            "oblique_deg": round(case.oblique_deg, 3),
            "stored": case.grid.to_json(),
        }
    return record


def _refusal_record(one: NotFound, root: Path) -> dict[str, Any]:
    files = [_name(file, root) for file in one.files]
    return {"files": files, "reason": one.reason, "text": one.text, "hint": one.hint}
