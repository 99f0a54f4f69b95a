"""task.yaml: what one annotation task of the lab is, and what the loop may do with it.

Written by `labloop task new`, by ingest when absent, or by a person; read by every service.
Unknown keys are errors, and all problems are reported at once. `docs/data-format.md` explains
each key to the person who edits the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import yaml

from imaging.errors import RecordError, TaskConfigError, shown
from imaging.labels import PALETTE, LabelScheme, label_scheme
from imaging.publish import write_text
from imaging.windows import AUTO, SPELLINGS, window_named

Kind = Literal["classification", "segmentation"]
Sampling = Literal["sequential", "uniform", "uncertainty"]
Fill = Literal["unseen", "between"]
Axis = Literal["auto", "axial", "coronal", "sagittal"]
PICTURE = "picture"  # the modality of a task of pictures; any other word is one of volumes
MODALITY = re.compile(r"[A-Z]{2,16}")  # DICOM's are code strings of capitals
HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)")
Scalar = str | int | float | bool
# What comes through PyYAML from the conversion of a bad date or number, or from deep nesting.
CONVERSION_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
QUOTE_IT = "in quotes: unquoted, YAML reads yes, no, on and off as true or false"


@dataclass(frozen=True, slots=True)
class AnnotationPolicy:
    """How annotators meet the task in Label Studio."""

    sampling: Sampling = "uncertainty"
    per_task: int = 1  # annotations wanted for each case
    max_slices: int = 100  # volumes of more slices are offered as key slices
    fill: Fill = "unseen"  # which slices without regions are interpolated, see docs/data-format.md


@dataclass(frozen=True, slots=True)
class VolumePolicy:
    """How volumes are shown; nothing here matters to a task of pictures."""

    axis: Axis = "auto"  # which way slices are cut; auto: as they were acquired
    window: str = "auto"  # a CT preset, "centre/width" in HU, or auto: by modality and labels
    channels: tuple[str, ...] = ()  # of multi-modal cases, in order: T1, T2, FLAIR


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """Shares of the patients that never train (held_out) or only choose a checkpoint."""

    held_out: float = 0.2
    validation: float = 0.15
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """When the watchdog asks for a run."""

    min_new_labels: int = 20
    quiet_s: float = 60.0  # no label may have landed for this long
    cooldown_s: float = 600.0  # since the last request
    hours: str = "00:00-24:00"  # local time; may span midnight


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """A recipe by name, and the few of its numbers that this task sets differently."""

    name: str = "auto"
    budget_s: float = 600.0  # wall-clock training time; the learning rate follows it
    overrides: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a candidate must show on the held-out cases to replace the champion."""

    min_held_out_cases: int = 10
    max_label_drop: float = 0.02  # no label's score may fall by more than this
    min_score: float = 0.0  # a first champion must reach this
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """Everything task.yaml says; build it with `load_task` or `parse_task`."""

    kind: Kind
    scheme: LabelScheme
    title: str = ""
    modality: str = PICTURE  # or DICOM's word for volumes: CT, MR, PT …
    multi_label: bool = False  # classification: several classes may hold at once
    annotation: AnnotationPolicy = AnnotationPolicy()
    split: SplitPolicy = SplitPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    recipe: RecipeChoice = RecipeChoice()
    gate: GatePolicy = GatePolicy()
    volume: VolumePolicy = VolumePolicy()

    @property
    def is_volume(self) -> bool:
        """Whether the cases are volumes rather than pictures."""
        return self.modality != PICTURE


def is_modality(word: str) -> bool:
    """Whether a task can be about it: pictures, or volumes by DICOM's word."""
    return word == PICTURE or MODALITY.fullmatch(word) is not None


def load_task(path: Path) -> TaskConfig:
    """The configuration in a task.yaml.

    Raises:
        TaskConfigError: the file cannot be read, or has problems; all are listed.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, *CONVERSION_ERRORS) as error:
        text = str(error).replace("\n", " ") or type(error).__name__
        raise TaskConfigError(str(path), [f"{text:.500}"]) from error
    return parse_task(document, where=str(path))


def parse_task(document: object, *, where: str) -> TaskConfig:
    """The configuration in a parsed YAML document; `where` names it in messages."""
    if not isinstance(document, dict):
        raise TaskConfigError(where, [f"found {type(document).__name__}, expected a mapping"])
    read = _Reader(cast(dict[str, Any], document))
    read.choice("format", (1,), default=1)
    config = TaskConfig(
        kind=cast(Kind, read.choice("kind", ("classification", "segmentation"))),
        scheme=_scheme(read),
        title=read.text("title", default=""),
        modality=_modality(read),
        multi_label=read.boolean("multi_label", default=False),
        annotation=_annotation(read.section("annotation")),
        split=_split(read.section("split")),
        retrain=_retrain(read.section("retrain")),
        recipe=_recipe(read.section("recipe")),
        gate=_gate(read.section("gate")),
        volume=_volume(read.section("volume")),
    )
    if read.finish():
        raise TaskConfigError(where, read.problems)
    return config


def dump_task(config: TaskConfig) -> str:
    """task.yaml as text, every key present, with a word on what each section is for."""
    labels = [{"name": label.name, "color": label.color} for label in config.scheme.labels]
    head: dict[str, object] = {"format": 1, "kind": config.kind, "title": config.title}
    head |= {"modality": config.modality}
    if config.kind == "classification":
        head["multi_label"] = config.multi_label
    recipe = {"name": config.recipe.name, "budget_s": config.recipe.budget_s}
    if config.is_volume:
        volume = _plain(config.volume) | {"channels": list(config.volume.channels)}
        head["volume"] = volume
    sections: list[tuple[str, dict[str, object]]] = [
        ("What this task is.", head),
        ("In order: index 1, 2, …; where two overlap, the later one wins.", {"labels": labels}),
        ("How annotators are served.", {"annotation": _annotation_record(config)}),
        ("Shares of the patients; held-out ones never train.", {"split": _plain(config.split)}),
        ("When new labels start a training run.", {"retrain": _plain(config.retrain)}),
        ("What is trained, and for how long.", {"recipe": recipe | dict(config.recipe.overrides)}),
        ("What a new model must show to be served.", {"gate": _plain(config.gate)}),
    ]
    return "\n".join(
        f"# {comment}\n{yaml.safe_dump(section, sort_keys=False, allow_unicode=True)}"
        for comment, section in sections
    )


def save_task(path: Path, config: TaskConfig) -> None:
    """Write task.yaml in one step."""
    write_text(path, dump_task(config))


def _annotation_record(config: TaskConfig) -> dict[str, object]:
    record = _plain(config.annotation)
    return record if config.is_volume else {k: record[k] for k in ("sampling", "per_task")}


def _plain(policy: object) -> dict[str, object]:
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__}  # type: ignore[attr-defined]


class _Reader:
    """Takes known keys out of a mapping and collects every problem on the way."""

    def __init__(self, mapping: dict[str, Any], prefix: str = "", root: "_Reader | None" = None):
        self.left = dict(mapping)
        self.prefix = prefix
        self.problems: list[str] = root.problems if root else []
        self.sections: list[_Reader] = []

    def section(self, key: str) -> "_Reader":
        value = self.left.pop(key, None)
        if value is not None and not isinstance(value, dict):
            self.problem(key, value, "a mapping")
            value = None
        reader = _Reader(value or {}, f"{self.prefix}{key}.", self)
        self.sections.append(reader)
        return reader

    def problem(self, key: str, found: object, expected: str) -> None:
        self.problems.append(f"{self.prefix}{key} is {shown(found)}, expected {expected}")

    def choice(
        self, key: str, options: tuple[Scalar, ...], default: Scalar | None = None
    ) -> Scalar:
        value = self.left.pop(key, default)
        if value not in options or isinstance(value, bool):
            self.problem(key, value, " or ".join(map(str, options)))
            return options[0]
        return cast(Scalar, value)

    def text(self, key: str, default: str) -> str:
        value = self.left.pop(key, default)
        if not isinstance(value, str):
            self.problem(key, value, "text")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self.left.pop(key, default)
        if not isinstance(value, bool):
            self.problem(key, value, "true or false")
            return default
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self.left.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(key, value, "a number")
            return default
        if not low <= value <= high:  # also false for NaN
            self.problem(key, value, f"{low:g} to {high:g}")
            return default
        return float(value)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.left.get(key, default)
        if isinstance(value, float) and not value.is_integer():
            self.left.pop(key)
            self.problem(key, value, "a whole number")
            return default
        return int(self.number(key, default, low, high))

    def finish(self) -> bool:
        """Whether there are problems, keys that nobody asked for among them."""
        for reader in (self, *self.sections):
            self.problems += [
                f"{reader.prefix}{key!s:.60} is not a known key" for key in reader.left
            ]
        return bool(self.problems)


def _modality(read: _Reader) -> str:
    """A word in small letters would make a task of volumes by mistake: `Picture`, `ct`."""
    found = read.text("modality", default=PICTURE)
    if not is_modality(found):
        read.problem("modality", found, f"{PICTURE}, or DICOM's word for volumes: CT, MR, PT …")
        return PICTURE
    return found


def _scheme(read: _Reader) -> LabelScheme:
    value = read.left.pop("labels", None)
    entries = value if isinstance(value, list) else []
    names: list[str] = []
    colors: list[str | None] = []
    for entry in entries:
        fields = entry if isinstance(entry, dict) else {"name": entry}
        name, color = _label_name(fields.get("name")), fields.get("color")
        if isinstance(fields.get("name"), bool):
            read.problem("labels", fields["name"], f"a name {QUOTE_IT}")
        elif name is None or not set(fields) <= {"name", "color"}:
            read.problem("labels", entry, "a name, or {name: …, color: '#rrggbb'}")
        elif not isinstance(color, str | None):
            read.problem("labels", color, f"a color in quotes, such as '{PALETTE[0]}'")
        else:
            names.append(name)
            colors.append(color)
    try:
        return label_scheme(names, colors)
    except RecordError as error:
        read.problems.append(f"{read.prefix}labels: {error}")
        return label_scheme(["unknown"])


def _label_name(found: object) -> str | None:
    """Text, or a number that is surely meant as text; classes are often called 0 and 1."""
    if isinstance(found, int) and abs(found) < 2**63:
        return str(found)
    return found if isinstance(found, str) else None


def _annotation(read: _Reader) -> AnnotationPolicy:
    sampling = read.choice("sampling", ("sequential", "uniform", "uncertainty"), "uncertainty")
    return AnnotationPolicy(
        sampling=cast(Sampling, sampling),
        per_task=read.integer("per_task", 1, 1, 20),
        max_slices=read.integer("max_slices", 100, 2, 1000),
        fill=cast(Fill, read.choice("fill", ("unseen", "between"), "unseen")),
    )


def _volume(read: _Reader) -> VolumePolicy:
    channels = read.left.pop("channels", [])
    if not isinstance(channels, list) or not all(isinstance(one, str) for one in channels):
        read.problem("channels", channels, "a list of names")
        channels = []
    axis = read.choice("axis", ("auto", "axial", "coronal", "sagittal"), "auto")
    window = read.text("window", AUTO)
    if window != AUTO and window_named(window) is None:
        read.problem("window", window, SPELLINGS)
    return VolumePolicy(cast(Axis, axis), window, tuple(channels))


def _split(read: _Reader) -> SplitPolicy:
    return SplitPolicy(
        held_out=read.number("held_out", 0.2, 0.0, 0.8),
        validation=read.number("validation", 0.15, 0.0, 0.8),
        seed=read.integer("seed", 0, 0, 2**31),
    )


def _retrain(read: _Reader) -> RetrainPolicy:
    hours = read.text("hours", "00:00-24:00")
    if not HOURS.fullmatch(hours):
        read.problem("hours", hours, "HH:MM-HH:MM")
    return RetrainPolicy(
        min_new_labels=read.integer("min_new_labels", 20, 1, 10**6),
        quiet_s=read.number("quiet_s", 60.0, 0.0, 86400.0),
        cooldown_s=read.number("cooldown_s", 600.0, 0.0, 30 * 86400.0),
        hours=hours,
    )


def _recipe(read: _Reader) -> RecipeChoice:
    name = read.text("name", "auto")
    budget_s = read.number("budget_s", 600.0, 1.0, 30 * 86400.0)
    overrides = {key: read.left.pop(key) for key in list(read.left)}
    for key, value in overrides.items():
        if not isinstance(value, Scalar):
            read.problem(key, value, "a number, text, or true/false")
    return RecipeChoice(name, budget_s, MappingProxyType(overrides))


def _gate(read: _Reader) -> GatePolicy:
    return GatePolicy(
        min_held_out_cases=read.integer("min_held_out_cases", 10, 1, 10**6),
        max_label_drop=read.number("max_label_drop", 0.02, 0.0, 1.0),
        min_score=read.number("min_score", 0.0, 0.0, 1.0),
        confidence=read.number("confidence", 0.95, 0.5, 0.999),
        resamples=read.integer("resamples", 2000, 100, 10**6),
        seed=read.integer("seed", 0, 0, 2**31),
    )
