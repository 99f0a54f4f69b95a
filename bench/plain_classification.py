"""What a user of MONAI would write for classes of pictures: `bench.quality` compares with it.

    python bench/plain_classification.py SPLIT.json BUDGET_S OUT

SPLIT.json: {"classes": N, "train": [{"image": …, "class": k}], "test": [{"image": …}]}; OUT gets
probabilities.json, one row of N per test picture.
"""

import json
import sys
import time
from pathlib import Path

import torch
from monai.data import CacheDataset, DataLoader
from monai.networks.nets import DenseNet121
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandFlipd,
    RandRotated,
    RandZoomd,
    Resized,
    ScaleIntensityd,
)

SIZE = (128, 128)


def main(split_file: str, budget_s: float, out: Path) -> None:
    split = json.loads(Path(split_file).read_text())
    load = [
        LoadImaged("image", reverse_indexing=False, reader="PILReader"),
        EnsureChannelFirstd("image"),
        Resized("image", SIZE),
        ScaleIntensityd("image"),
    ]
    vary = [
        RandRotated("image", range_x=0.25, prob=0.5, keep_size=True),
        RandFlipd("image", spatial_axis=1, prob=0.5),
        RandZoomd("image", min_zoom=0.9, max_zoom=1.1, prob=0.5),
    ]
    train = CacheDataset(split["train"], Compose(load + vary), progress=False)
    loader = DataLoader(train, batch_size=16, shuffle=True, drop_last=True)
    network = DenseNet121(2, 1, split["classes"])
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    began, iterations = time.monotonic(), 0
    while time.monotonic() - began < budget_s:
        for batch in loader:
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(batch["image"]), batch["class"])
            loss.backward()
            optimiser.step()
            iterations += 1
            if time.monotonic() - began >= budget_s:
                break
    network.eval()
    read = Compose(load)
    with torch.inference_mode():
        rows = [
            network(read({"image": case["image"]})["image"][None]).softmax(1)[0].tolist()
            for case in split["test"]
        ]
    (out / "probabilities.json").write_text(json.dumps(rows))
    print(json.dumps({"iterations": iterations}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
