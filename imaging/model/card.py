"""A bundle's docs/README.md: what somebody should know before relying on the model."""

from imaging.dataset.folds import SPLITS
from imaging.model.bundle import Bundle


def model_card(record: Bundle) -> str:
    """The model card, for people."""
    recipe = record.recipe
    labels = "\n".join(f"- `{label.name}` (index {label.index})" for label in record.scheme.labels)
    rows = "\n".join(
        f"| {split} | {len(record.cases[split])} | {len(record.patients[split])} |"
        for split in SPLITS
    )
    details = "\n".join(f"- {key}: {value}" for key, value in record.training.items())
    return f"""# {record.version}

A first guess for annotators of **{record.task}** ({recipe.kind} of 2D pictures). It is not a
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

{recipe.network} on {recipe.input_H} × {recipe.input_W} pixels, {recipe.channels} channel(s),
recipe `{recipe.name}`; every number is in `labloop.json`.

{details}

## Limits

- It knows pictures like those it was trained on. Another scanner, another view or another
  patient group can be answered wrongly, with a high score.
- Details smaller than a pixel of the input grid above are lost.
- The score orders cases by how unsure the model is; it is no probability of being right.

## Using it

`labloop predict {record.task} FILE… -o FOLDER`, or in plain MONAI, from this folder, for the PNG
files of a folder PICTURES:

```sh
python -c "from monai.bundle import run
run(config_file='configs/inference.json', dataset_dir='PICTURES', output_dir='ANSWERS')"
```

ANSWERS lies elsewhere: `manifest.json` lists every file of this folder, and a model with a file
more or less is not served.
"""


def _metrics(record: Bundle) -> str:
    if not record.metrics:
        return "There were no held-out cases to measure it on."
    rows = "\n".join(
        f"| {name} | {'–' if value is None else format(value, '.3f')} |"
        for name, value in record.metrics.items()
    )
    return f"On the test cases:\n\n| measure | value |\n|---|---:|\n{rows}"
