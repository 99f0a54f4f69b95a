"""Who trains, who chooses the checkpoint, who is held out: decided once per patient, for ever.

A patient who was assigned keeps the split, also while nobody has a label for them, so that
held-out patients stay held out as the data grows. New patients are placed one by one, in an order
made of a seeded hash, where the share of patients is most below its target. Patients of one class
are spread like all patients are. Pure: the same patients, the same answer.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from imaging.task import SplitPolicy

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FOLDS = 5
MIN_FOR_TEST = 3  # from so many patients on, somebody is held out
MIN_FOR_VALIDATION = 4  # … and somebody chooses the checkpoint


@dataclass(frozen=True, slots=True)
class Fold:
    """One split of the patients who are not held out."""

    train: frozenset[str]
    validation: frozenset[str]


def assign(
    patients: Mapping[str, Iterable[str]],
    previous: Mapping[str, Split],
    policy: SplitPolicy,
) -> dict[str, Split]:
    """The split of every patient ever seen.

    Args:
        patients: patient → the classes or labels their cases show (empty when nothing is known).
        previous: what earlier snapshots decided; it is kept as it is.
        policy: the shares wanted, and the seed of the order.

    Returns:
        patient → split, for the patients of both mappings. As long as there is anybody to place,
        at least one trains; with three patients or more at least one is held out, if any may be.
    """
    placed = dict(previous)
    total = len(previous.keys() | patients.keys())
    tally = _Tally({name: set(classes) for name, classes in patients.items()}, placed, policy)
    for patient in sorted(patients.keys() - placed.keys(), key=lambda name: _rank(name, policy)):
        placed[patient] = _missing(tally.sizes, total, policy) or tally.neediest(patient)
        tally.count(patient, placed[patient])
    return placed


def regrouped(
    previous: Mapping[str, Split], sides: Mapping[str, Split], patient_of: Mapping[str, str]
) -> dict[str, Split]:
    """`previous`, for patients who go by another pseudonym than when their cases were assigned.

    Args:
        previous: patient → split, as earlier snapshots decided.
        sides: case → the split it was in.
        patient_of: case → the patient it belongs to now.

    Returns:
        `previous` with every patient on the side of their cases. Whoever has cases on several
        sides is on the first of SPLITS: a patient who has trained a model cannot judge one.
    """
    placed = dict(previous)
    for case, patient in patient_of.items():
        if case in sides:
            found = {sides[case], placed.get(patient, sides[case])}
            placed[patient] = min(found, key=SPLITS.index)
    return placed


def folds(splits: Mapping[str, Split], seed: int, count: int = FOLDS) -> list[Fold]:
    """Fold 0 is the assignment itself; the others validate on its training patients in turn.

    A patient's fold follows from a hash, so growth never moves anybody. Folds in which nobody
    would train or validate are left out, fold 0 excepted.
    """
    insiders = frozenset(name for name, split in splits.items() if split != "test")
    groups: list[set[str]] = [set() for _ in range(count)]
    for name in insiders:
        group = 1 + _hash(seed, "fold", name) % (count - 1)
        groups[0 if splits[name] == "validation" else group].add(name)
    made = [Fold(insiders - group, frozenset(group)) for group in groups]
    return made[:1] + [fold for fold in made[1:] if fold.train and fold.validation]


class _Tally:
    """Patients per split, and per class and split."""

    def __init__(
        self, classes: Mapping[str, set[str]], placed: Mapping[str, Split], policy: SplitPolicy
    ) -> None:
        self.classes = classes
        self.sizes: Counter[Split] = Counter()
        self.by_class: dict[str, Counter[Split]] = {}
        self.targets: dict[Split, float] = {
            "train": max(1.0 - policy.held_out - policy.validation, 0.0),
            "validation": policy.validation,
            "test": policy.held_out,
        }
        for patient, split in placed.items():
            self.count(patient, split)

    def count(self, patient: str, split: Split) -> None:
        self.sizes[split] += 1
        for name in self.classes.get(patient, ()):
            self.by_class.setdefault(name, Counter())[split] += 1

    def neediest(self, patient: str) -> Split:
        """Where one more patient brings the shares closest to what is wanted; ties train."""
        own = [self.by_class.get(name, Counter[Split]()) for name in self.classes[patient]]

        def need(split: Split) -> float:
            of_classes = [self._gap(sizes, split) for sizes in own] or [0.0]
            return self._gap(self.sizes, split) + sum(of_classes) / len(of_classes)

        return max((split for split in SPLITS if self.targets[split] > 0), key=need)

    def _gap(self, sizes: Counter[Split], split: Split) -> float:
        return self.targets[split] * (sizes.total() + 1) - sizes[split]


def _missing(sizes: Mapping[Split, int], total: int, policy: SplitPolicy) -> Split | None:
    """A split that must not stay empty in a set of this size."""
    if not sizes["train"]:
        return "train"
    if not sizes["test"] and policy.held_out > 0 and total >= MIN_FOR_TEST:
        return "test"
    if not sizes["validation"] and policy.validation > 0 and total >= MIN_FOR_VALIDATION:
        return "validation"
    return None


def _rank(patient: str, policy: SplitPolicy) -> tuple[int, str]:
    return _hash(policy.seed, "split", patient), patient


def _hash(seed: int, purpose: str, patient: str) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
