"""Bundles: a trained model with all it takes to serve it, as a folder in MONAI's bundle format.

    configs/metadata.json     what it is, in MONAI's words
    configs/inference.json    how plain MONAI runs it
    models/model.pt           the weights, a state dict
    models/model.xml, .bin    the same network for OpenVINO
    docs/README.md            the model card
    labloop.json              recipe, labels, what it was trained on and how well it did
    manifest.json             the SHA-256 of every file, written last

Reading needs neither torch nor MONAI; writing does, and imports them only then.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imaging.dataset.folds import SPLITS
from imaging.dataset.manifest import Snapshot
from imaging.errors import AlreadyPublishedError, BundleError, ImagingError
from imaging.ids import utc_now
from imaging.labels import LabelScheme, label_scheme
from imaging.model.cleaning import Cleanings, parse_cleanings
from imaging.publish import (
    MANIFEST,
    STAGING,
    manifest_files,
    publish,
    read_json,
    staging_folder,
    verify_folder,
    write_json,
    write_text,
)
from imaging.recipes.reading import parse_recipe
from imaging.recipes.recipe import Recipe, VolumeRecipe

if TYPE_CHECKING:
    import torch

    from imaging.model.predict import AnyPredictor
    from imaging.model.predict_volume import VolumePredictor

RECORD = "labloop.json"
WEIGHTS = "models/model.pt"
OPENVINO_MODEL = "models/model.xml"
Metrics = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What labloop.json says about a model."""

    folder: Path
    version: str
    task: str
    run: str
    snapshot: str
    scheme: LabelScheme
    multi_label: bool
    recipe: Recipe
    cases: Mapping[str, tuple[str, ...]]  # split → cases of the snapshot
    patients: Mapping[str, tuple[str, ...]]  # split → their patients' pseudonyms
    created_at: str
    training: Mapping[str, Any] = field(default_factory=dict)  # seconds, epochs, versions …
    metrics: Metrics = field(default_factory=dict)  # on the held-out cases
    postprocessing: Cleanings = field(default_factory=dict)  # of label maps of volumes, by label

    @property
    def known_patients(self) -> frozenset[str]:
        """Whoever the weights, or the choice between weights, saw."""
        return frozenset(self.patients["train"]) | frozenset(self.patients["validation"])

    @property
    def known_cases(self) -> frozenset[str]:
        """The same, by case."""
        return frozenset(self.cases["train"]) | frozenset(self.cases["validation"])

    def to_json(self) -> dict[str, Any]:
        cleanings = {name: one.to_json() for name, one in self.postprocessing.items()}
        return {
            "format": 1,
            "version": self.version,
            "task": self.task,
            "run": self.run,
            "snapshot": self.snapshot,
            "kind": self.recipe.kind,
            "multi_label": self.multi_label,
            "labels": [
                {"name": label.name, "index": label.index, "color": label.color}
                for label in self.scheme.labels
            ],
            "recipe": self.recipe.to_json(),
            "cases": {split: list(names) for split, names in self.cases.items()},
            "patients": {split: list(names) for split, names in self.patients.items()},
            "training": dict(self.training),
            "metrics": dict(self.metrics),
            "created_at": self.created_at,
            **({"postprocessing": cleanings} if isinstance(self.recipe, VolumeRecipe) else {}),
        }


def describe_model(
    final: Path, run: str, recipe: Recipe, snapshot: Snapshot, training: Mapping[str, Any]
) -> Bundle:
    """The record of a model that was just trained on a snapshot and is to be published."""
    return Bundle(
        folder=final,
        version=final.name,
        task=snapshot.task,
        run=run,
        snapshot=snapshot.id,
        scheme=snapshot.scheme,
        multi_label=snapshot.multi_label,
        recipe=recipe,
        cases={split: tuple(one.case for one in snapshot.of(split)) for split in SPLITS},
        patients={
            split: tuple(sorted({one.patient for one in snapshot.of(split)})) for split in SPLITS
        },
        created_at=utc_now(),
        training=training,
    )


def write_bundle(
    record: Bundle,
    weights: "Mapping[str, torch.Tensor]",
    measure: "Callable[[AnyPredictor], Metrics] | None" = None,
    choose: "Callable[[VolumePredictor], Cleanings] | None" = None,
) -> Bundle:
    """Export, check and publish a model; readers see the whole bundle or none.

    Args:
        record: what labloop.json will say; its `folder` is where the bundle appears.
        weights: the network's state dict.
        measure: called with the predictor that will serve; what it returns becomes the
            bundle's metrics and stands in the model card.
        choose: volumes: called before that, with a predictor that cleans nothing; what it
            returns is done to every label map from then on.

    Returns:
        The bundle as published.

    Raises:
        BundleError: the exported network does not answer like the trained one.
        AlreadyPublishedError: the version exists.
    """
    if record.folder.exists():
        raise AlreadyPublishedError(record.folder)
    # torch and MONAI take seconds to import, and serving processes read bundles too.
    from imaging.model.card import model_card
    from imaging.model.export import export_weights
    from imaging.model.monai_config import inference_config, metadata
    from imaging.model.predict import predictor_of
    from imaging.model.predict_volume import VolumePredictor

    _discard_leftovers(record.folder)
    with staging_folder(record.folder) as staging:
        export_weights(record.recipe, weights, staging / WEIGHTS, staging / OPENVINO_MODEL)
        unclean = predictor_of(record, staging) if choose is not None else None
        if choose is not None and isinstance(unclean, VolumePredictor):
            record = replace(record, postprocessing=choose(unclean))
        if measure is not None:
            metrics = dict(measure(predictor_of(record, staging)))
            record = replace(record, metrics=metrics)
        write_json(staging / "configs" / "metadata.json", metadata(record))
        write_json(staging / "configs" / "inference.json", inference_config(record))
        write_text(staging / "docs" / "README.md", model_card(record))
        write_json(staging / RECORD, record.to_json())
        files = manifest_files(staging)
        write_json(staging / MANIFEST, {"format": 1, "version": record.version, "files": files})
        publish(staging, record.folder)
    return record


def _discard_leftovers(final: Path) -> None:
    """Remove what a killed attempt at this very version left in staging."""
    for leftover in (final.parent / STAGING).glob(f"{final.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def load_bundle(folder: Path) -> Bundle:
    """A published bundle, after its files have been checked against their hashes.

    Raises:
        BundleError: there is no bundle, files have changed, or labloop.json is unusable.
    """
    try:
        verify_folder(folder)
        return read_bundle(folder)
    except BundleError:
        raise
    except ImagingError as error:
        raise BundleError(str(error)) from error


def read_bundle(folder: Path) -> Bundle:
    """What labloop.json says, without checking the other files.

    Raises:
        BundleError: the file is absent or unusable.
    """
    where = folder / RECORD
    try:
        record = read_json(where)
        labels = sorted(record["labels"], key=lambda label: int(label["index"]))
        return Bundle(
            folder=folder,
            version=str(record["version"]),
            task=str(record["task"]),
            run=str(record["run"]),
            snapshot=str(record["snapshot"]),
            scheme=label_scheme(
                [label["name"] for label in labels], [label["color"] for label in labels]
            ),
            multi_label=bool(record["multi_label"]),
            recipe=parse_recipe(record["recipe"], where=str(where)),
            cases={split: tuple(map(str, record["cases"][split])) for split in SPLITS},
            patients={split: tuple(map(str, record["patients"][split])) for split in SPLITS},
            created_at=str(record["created_at"]),
            training=dict(record["training"]),
            metrics=dict(record["metrics"]),
            postprocessing=parse_cleanings(record.get("postprocessing", {}), where=str(where)),
        )
    except ImagingError as error:
        raise BundleError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{where}: {error!r} while reading a bundle's record") from error
