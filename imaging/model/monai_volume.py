"""What configs/inference.json says of a model for volumes: NIfTI in, label maps on its grid out.

The transforms compute what `imaging.model.volume_input` and `imaging.model.windows` do; a test
holds the answers equal.
"""

from typing import Any

from imaging.model.bundle import Bundle
from imaging.model.monai_masks import LABELS_ON_GRID, save_labels
from imaging.recipes.recipe import VolumeRecipe


def volume_parts(record: Bundle, recipe: VolumeRecipe) -> dict[str, Any]:
    """The parts of the configuration that differ from those of pictures."""
    return {
        "files": _files(recipe),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(recipe)},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(recipe.patch_XYZ),
            "sw_batch_size": 1,
            "overlap": recipe.overlap,
            "mode": "gaussian",
        },
        # Probabilities are blended, not logits.
        "probabilities": "$torch.nn.Sequential(@network, torch.nn.Softmax(1))",
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(record, recipe)},
        "results": (
            "$[@postprocessing({**item, 'pred': "
            "@inferer(item['image'][None].to(@device), @probabilities)[0].cpu()}) "
            "for item in @dataset]"
        ),
    }


def _files(recipe: VolumeRecipe) -> str:
    """One file per case, or lists of a case's channels by nnU-Net's names."""
    if recipe.channels == 1:
        return "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))"
    channels = ", ".join(f"path[:-12] + '_{c:04d}.nii.gz'" for c in range(recipe.channels))
    return f"$[[{channels}] for path in sorted(glob.glob(@dataset_dir + '/*_0000.nii.gz'))]"


def _preprocessing(recipe: VolumeRecipe) -> list[dict[str, Any]]:
    return [
        {
            "_target_": "LoadImaged",
            "keys": "image",
            "reader": "NibabelReader",
            "ensure_channel_first": True,
        },
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {
            "_target_": "Spacingd",
            "keys": "image",
            "pixdim": list(recipe.spacing_mm),
            "mode": "bilinear",
        },
        *_scaling(recipe),
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def _scaling(recipe: VolumeRecipe) -> list[dict[str, Any]]:
    if recipe.normalisation != "dataset":
        return [
            {
                "_target_": "NormalizeIntensityd",
                "keys": "image",
                "nonzero": recipe.normalisation == "nonzero",
                "channel_wise": True,
            }
        ]
    low, high = (
        f"torch.tensor({list(limits)}).view(-1, 1, 1, 1)"
        for limits in (recipe.clip_low, recipe.clip_high)
    )
    return [
        {
            "_target_": "Lambdad",
            "keys": "image",
            "func": f"$lambda x: x.float().clamp({low}, {high})",
        },
        {
            "_target_": "NormalizeIntensityd",
            "keys": "image",
            "subtrahend": list(recipe.mean),
            "divisor": list(recipe.deviation),
            "channel_wise": True,
        },
    ]


# Of several files SaveImaged remembers that they were channels, and takes an axis of the answer,
# which has none, for them: the saved map then loses a dimension when its axes are turned.
WITHOUT_CHANNELS = {
    "_target_": "Lambdad",
    "keys": "pred",
    "func": "$lambda x: type(x)(x, meta={**x.meta, 'original_channel_dim': float('nan')})",
}


def _postprocessing(record: Bundle, recipe: VolumeRecipe) -> list[dict[str, Any]]:
    return [
        *LABELS_ON_GRID,
        *_cleaning(record),
        *([WITHOUT_CHANNELS] if recipe.channels > 1 else []),
        save_labels(".nii.gz"),
    ]


def _cleaning(record: Bundle) -> list[dict[str, Any]]:
    """As far as MONAI has it: sizes in mm³ it does not know, the model card says so."""
    steps: list[dict[str, Any]] = []
    for label in record.scheme.labels:
        cleaning = record.postprocessing.get(label.name)
        if cleaning is None:
            continue
        if cleaning.pieces > 0:
            steps.append(
                {
                    "_target_": "KeepLargestConnectedComponentd",
                    "keys": "pred",
                    "applied_labels": [label.index],
                    "num_components": cleaning.pieces,
                }
            )
        if cleaning.fill_holes:
            steps.append(
                {"_target_": "FillHolesd", "keys": "pred", "applied_labels": [label.index]}
            )
    return steps
