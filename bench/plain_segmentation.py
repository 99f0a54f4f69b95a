"""What a user of MONAI would write for masks on pictures: `bench.quality` compares with it.

    python bench/plain_segmentation.py SPLIT.json BUDGET_S OUT

SPLIT.json: {"labels": N, "train": [{"image": …, "label": …}], "test": [{"image": …}]}; OUT gets
one label map per test picture, under the picture's number.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    Resized,
    ScaleIntensityd,
)
from PIL import Image

SIZE = (256, 256)


def main(split_file: str, budget_s: float, out: Path) -> None:
    split = json.loads(Path(split_file).read_text())
    both, image = ["image", "label"], ["image"]
    load = [
        LoadImaged(both, reverse_indexing=False, reader="PILReader", allow_missing_keys=True),
        EnsureChannelFirstd(both, allow_missing_keys=True),
        Resized(both, SIZE, mode=["bilinear", "nearest"], allow_missing_keys=True),
        ScaleIntensityd(image),
    ]
    vary = [
        RandAffined(
            both, prob=0.8, rotate_range=0.5, scale_range=(0.2, 0.2), translate_range=(20, 20),
            mode=["bilinear", "nearest"], padding_mode="zeros",
        ),
        RandAdjustContrastd(image, 0.5, gamma=(0.7, 1.5)),
        RandGaussianNoised(image, 0.3, std=0.03),
    ]  # fmt: skip
    train = CacheDataset(split["train"], Compose(load + vary), progress=False)
    loader = DataLoader(train, batch_size=8, shuffle=True)
    outputs = split["labels"] + 1
    network = UNet(2, 1, outputs, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    began, iterations = time.monotonic(), 0
    while time.monotonic() - began < budget_s:
        for batch in loader:
            optimiser.zero_grad()
            loss = loss_of(network(batch["image"]), batch["label"])
            loss.backward()
            optimiser.step()
            iterations += 1
            if time.monotonic() - began >= budget_s:
                break
    network.eval()
    read = Compose(load)
    with torch.inference_mode():
        for number, case in enumerate(split["test"]):
            with Image.open(case["image"]) as picture:
                width, height = picture.size
            logits = network(read({"image": case["image"]})["image"][None])
            logits = torch.nn.functional.interpolate(logits, (height, width), mode="bilinear")
            labels = logits[0].argmax(0).numpy().astype(np.uint8)
            Image.fromarray(labels).save(out / f"{number}.png")
    print(json.dumps({"iterations": iterations}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
