"""A bundle's two MONAI configuration files: what it is, and how plain MONAI runs it.

The preprocessing of configs/inference.json says in MONAI's transforms what
`imaging.model.transforms` computes in numpy; a test holds the two equal. What differs for volumes
is in `imaging.model.monai_volume`.
"""

from importlib.metadata import version
from typing import Any

from imaging.errors import BundleError
from imaging.model.bundle import WEIGHTS, Bundle
from imaging.model.monai_masks import LABELS_ON_GRID, save_labels
from imaging.model.monai_volume import volume_parts
from imaging.model.network import network_config
from imaging.recipes.recipe import PictureRecipe, Recipe, VolumeRecipe

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"


def metadata(record: Bundle) -> dict[str, Any]:
    """configs/metadata.json, after MONAI's schema."""
    recipe, labels = record.recipe, record.scheme.labels
    names = {str(label.index): label.name for label in labels}
    masks = recipe.kind == "segmentation"
    channel_def = {"0": "background", **names} if masks else dict(enumerate(record.scheme.names))
    is_volume = isinstance(recipe, VolumeRecipe)
    reader = "nibabel" if is_volume else "pillow"
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"{record.version}, trained by run {record.run}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {reader: version(reader)},
        "name": record.version,
        "task": (
            f"{record.task}: {'3D' if is_volume else '2D'} {recipe.kind} of "
            f"{', '.join(record.scheme.names)}"
        ),
        "description": f"{recipe.network} trained by Labloop on snapshot {record.snapshot}",
        "authors": "Labloop",
        "copyright": "whoever holds the rights to the images and annotations it was trained on",
        "intended_use": "First guesses for annotators. Not a medical device.",
        "eval_metrics": dict(record.metrics),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": recipe.channels,
                    "spatial_shape": list(recipe.input_shape),
                    "dtype": "float32",
                    "value_range": [] if is_volume else [0, 1],
                    "is_patch_data": is_volume,
                    "channel_def": _channel_names(recipe),
                }
            },
            "outputs": {
                "pred": {
                    "type": "image" if masks else "probabilities",
                    "format": "segmentation" if masks else "classification",
                    "num_channels": recipe.outputs,
                    "spatial_shape": list(recipe.input_shape) if masks else [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": is_volume,
                    "channel_def": {str(index): name for index, name in channel_def.items()},
                }
            },
        },
    }


def _channel_names(recipe: Recipe) -> dict[str, str]:
    names = [f"channel {c}" for c in range(recipe.channels)]
    if isinstance(recipe, VolumeRecipe) and recipe.channel_names:
        names = list(recipe.channel_names)
    return {str(c): name for c, name in enumerate(names)}


def inference_config(record: Bundle) -> dict[str, Any]:
    """configs/inference.json: images of `dataset_dir` in, masks or a table in `output_dir` out.

    `monai.bundle.run` runs it in the bundle's folder; the model card says how. Answers go
    anywhere but into that folder, whose manifest they would break.

    Raises:
        BundleError: nobody has said how plain MONAI runs such a recipe.
    """
    recipe = record.recipe
    if isinstance(recipe, VolumeRecipe):
        parts = volume_parts(record, recipe)
    elif isinstance(recipe, PictureRecipe):
        parts = _picture_parts(recipe)
    else:
        raise BundleError(f"recipe {recipe.name} has no MONAI configuration")
    return {
        "imports": ["$import glob", "$import os", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": f"$os.path.expanduser('~/predictions-{record.version}')",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_config(recipe),
        "network": "$@network_def.to(@device)",
        "weights": (
            f"$torch.load(@bundle_root + '/{WEIGHTS}', map_location=@device, weights_only=True)"
        ),
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @files]",
            "transform": "@preprocessing",
        },
        "saver": {"_target_": "CSVSaver", "output_dir": "@output_dir"},
        "initialize": [
            "$torch.set_grad_enabled(False)",
            "$@network.load_state_dict(@weights)",
            "$@network.eval()",
        ],
        "run": ["$len(@results)"] if recipe.kind == "segmentation" else _table(),
        **parts,
    }


def _picture_parts(recipe: PictureRecipe) -> dict[str, Any]:
    masks = recipe.kind == "segmentation"
    return {
        "files": "$sorted(glob.glob(@dataset_dir + '/*.png'))",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(recipe)},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": _mask_postprocessing() if masks else _class_postprocessing(recipe),
        },
        "results": (
            "$[@postprocessing({**item, 'pred': "
            "@inferer(item['image'][None].to(@device), @network)[0].cpu()}) for item in @dataset]"
        ),
    }


def _preprocessing(recipe: PictureRecipe) -> list[dict[str, Any]]:
    resize = {"_target_": "Resized", "keys": "image", "mode": "bilinear", "anti_aliasing": True}
    if recipe.fit == "pad":
        resize |= {"spatial_size": recipe.input_H, "size_mode": "longest"}
    else:
        resize |= {"spatial_size": list(recipe.input_HW)}
    steps: list[dict[str, Any]] = [
        {
            "_target_": "LoadImaged",
            "keys": "image",
            "reader": "PILReader",
            "ensure_channel_first": True,
        },
        # MONAI reads and writes pictures as columns × rows; the network knows rows × columns.
        {"_target_": "Transposed", "keys": "image", "indices": [0, 2, 1]},
        {"_target_": "Lambdad", "keys": "image", "func": _channels(recipe.channels)},
        resize,
        _scaling(recipe),
    ]
    if recipe.fit == "pad":
        size = list(recipe.input_HW)
        steps.append({"_target_": "SpatialPadd", "keys": "image", "spatial_size": size})
    return steps


def _channels(channels: int) -> str:
    grey = "x.mean(0, keepdim=True)"
    if channels == 1:
        return f"$lambda x: {grey}"
    return f"$lambda x: x if x.shape[0] == {channels} else {grey}.repeat({channels}, 1, 1)"


def _scaling(recipe: PictureRecipe) -> dict[str, Any]:
    common = {"keys": "image", "b_min": 0.0, "b_max": 1.0, "clip": True}
    if recipe.normalisation == "range":
        limits = {"a_min": 0.0, "a_max": recipe.range_max}
        return {"_target_": "ScaleIntensityRanged"} | limits | common
    limits = {"lower": recipe.low_percentile, "upper": recipe.high_percentile}
    return {"_target_": "ScaleIntensityRangePercentilesd"} | limits | common


def _mask_postprocessing() -> list[dict[str, Any]]:
    return [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        *LABELS_ON_GRID,
        save_labels(".png"),
    ]


def _class_postprocessing(recipe: PictureRecipe) -> list[dict[str, Any]]:
    softmax = recipe.activation == "softmax"
    activation = {"softmax": softmax, "sigmoid": not softmax, "dim": 0}
    return [{"_target_": "Activationsd", "keys": "pred"} | activation]


def _table() -> list[str]:
    """One row per picture: its path and the probability of each class."""
    return [
        "$@saver.save_batch([item['pred'] for item in @results], {'filename_or_obj': @files})",
        "$@saver.finalize()",
    ]
