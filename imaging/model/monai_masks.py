"""The parts of configs/inference.json that write label maps, of pictures and of volumes alike."""

from typing import Any

# Back to the image's own grid, and there the likeliest label.
LABELS_ON_GRID: list[dict[str, Any]] = [
    {
        "_target_": "Invertd",
        "keys": "pred",
        "orig_keys": "image",
        "transform": "@preprocessing",
        "nearest_interp": False,
    },
    {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
]


def save_labels(ending: str) -> dict[str, Any]:
    """Writes `<image>_labels<ending>`, as uint8."""
    return {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "labels",
        "output_ext": ending,
        "output_dtype": "$torch.uint8",
        "resample": False,
        "separate_folder": False,
    }
