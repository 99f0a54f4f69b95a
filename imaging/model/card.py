"""A bundle's docs/README.md: what somebody should know before relying on the model."""

from imaging.dataset.folds import SPLITS
from imaging.model.bundle import Bundle
from imaging.recipes.recipe import Recipe, VolumeRecipe


def model_card(record: Bundle) -> str:
    """The model card, for people."""
    recipe = record.recipe
    labels = "\n".join(f"- `{label.name}` (index {label.index})" for label in record.scheme.labels)
    rows = "\n".join(
        f"| {split} | {len(record.cases[split])} | {len(record.patients[split])} |"
        for split in SPLITS
    )
    details = "\n".join(f"- {key}: {value}" for key, value in record.training.items())
    is_volume = isinstance(recipe, VolumeRecipe)
    images, voxel = ("volumes", "voxel") if is_volume else ("pictures", "pixel")
    files = "NIfTI" if is_volume else "PNG"
    return f"""# {record.version}

A first guess for annotators of **{record.task}** ({recipe.kind} of {_images(recipe)}). It is not a
medical device and has not been tested for diagnosis.

## Labels

{labels}

## How well it does

{_metrics(record)}

The comparison with the model it was to replace, case by case, is in
`runs/{record.task}/{record.run}/verdict.md`.

## Data

Snapshot `{record.snapshot}`; no patient is in two of its parts. Validation cases only chose
between weights; test cases were not seen before the weights were final.

| part | cases | patients |
|---|---:|---:|
{rows}

Cases and patients (pseudonyms) are listed in `labloop.json`.

## Training

{recipe.network} on {_input(recipe)}, {recipe.channels} channel(s),
recipe `{recipe.name}`; every number is in `labloop.json`.

{details}
{_postprocessing(record)}
## Limits

- It knows {images} like those it was trained on. Another scanner, another view or another
  patient group can be answered wrongly, with a high score.
- Details smaller than a {voxel} of the input grid above are lost.
- The score orders cases by how unsure the model is; it is no probability of being right.

## Using it

`labloop predict {record.task} FILE… -o FOLDER`, or in plain MONAI, from this folder, for the
{files} files of a folder PICTURES{_several(recipe)}:

```sh
python -c "from monai.bundle import run
run(config_file='configs/inference.json', dataset_dir='PICTURES', output_dir='ANSWERS')"
```

ANSWERS lies elsewhere: `manifest.json` lists every file of this folder, and a model with a file
more or less is not served.
"""


def _images(recipe: Recipe) -> str:
    if not isinstance(recipe, VolumeRecipe):
        return "2D pictures"
    names = f" with channels {', '.join(recipe.channel_names)}" if recipe.channel_names else ""
    return f"volumes{names}"


def _input(recipe: Recipe) -> str:
    sides = " × ".join(map(str, recipe.input_shape))
    if not isinstance(recipe, VolumeRecipe):
        return f"{sides} pixels"
    spacing = " × ".join(f"{mm:g}" for mm in recipe.spacing_mm)
    return f"patches of {sides} voxels of {spacing} mm"


def _several(recipe: Recipe) -> str:
    """How files of several channels are called."""
    if recipe.channels == 1 or not isinstance(recipe, VolumeRecipe):
        return ""
    return f" (`NAME_0000.nii.gz` to `NAME_{recipe.channels - 1:04d}.nii.gz` for each case)"


def _postprocessing(record: Bundle) -> str:
    if not isinstance(record.recipe, VolumeRecipe):
        return ""
    lines = [f"- {name}: {cleaning}" for name, cleaning in record.postprocessing.items()]
    said = "\n".join(lines) or "Nothing: no step made the validation cases better."
    note = (
        "\n\nPlain MONAI, as below, does all of it but removing pieces by their size."
        if any(one.min_size_mm3 > 0 for one in record.postprocessing.values())
        else ""
    )
    return f"\n## Postprocessing\n\n{said}{note}\n"


def _metrics(record: Bundle) -> str:
    if not record.metrics:
        return "There were no held-out cases to measure it on."
    rows = "\n".join(
        f"| {name} | {'–' if value is None else format(value, '.3f')} |"
        for name, value in record.metrics.items()
    )
    return f"On the test cases:\n\n| measure | value |\n|---|---:|\n{rows}"
