"""What a user of MONAI would write for labels in volumes: `bench.hippocampus` compares with it.

    python bench/plain_volumes.py SPLIT.json BUDGET_S OUT THREADS CLOCK

SPLIT.json: {"labels": N, "train": [{"image": …, "label": …}], "test": [{"image": …}]}; OUT gets
one label map per test volume, under the volume's number. CLOCK: wall, or cpu (divided by THREADS).
"""

import json
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandAffined,
    RandGaussianNoised,
    RandScaleIntensityd,
    ResizeWithPadOrCropd,
)

SIZE = (48, 64, 48)


def main(split_file: str, budget_s: float, out: Path, threads: int, clock: str) -> None:
    torch.set_num_threads(threads)
    now = (lambda: time.process_time() / threads) if clock == "cpu" else time.monotonic
    split = json.loads(Path(split_file).read_text())
    both, image = ["image", "label"], ["image"]
    load = [
        LoadImaged(both, allow_missing_keys=True),
        EnsureChannelFirstd(both, allow_missing_keys=True),
        Orientationd(both, axcodes="RAS", labels=None, allow_missing_keys=True),
        NormalizeIntensityd(image),
    ]
    vary = [
        ResizeWithPadOrCropd(both, SIZE),
        RandAffined(
            both, prob=0.8, rotate_range=[0.2] * 3, scale_range=[0.15] * 3,
            mode=["bilinear", "nearest"], padding_mode="zeros",
        ),
        RandScaleIntensityd(image, factors=0.2, prob=0.5),
        RandGaussianNoised(image, prob=0.3, std=0.1),
    ]  # fmt: skip
    train = CacheDataset(split["train"], Compose(load + vary), progress=False)
    loader = DataLoader(train, batch_size=2, shuffle=True)
    outputs = split["labels"] + 1
    network = UNet(3, 1, outputs, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    began, iterations = now(), 0
    while now() - began < budget_s:
        for batch in loader:
            optimiser.zero_grad()
            loss = loss_of(network(batch["image"]), batch["label"])
            loss.backward()
            optimiser.step()
            iterations += 1
            if now() - began >= budget_s:
                break
    network.eval()
    read = Compose(load)
    with torch.inference_mode():
        for number, case in enumerate(split["test"]):
            image = read({"image": case["image"]})["image"]
            logits = sliding_window_inference(image[None], SIZE, 1, network)
            labels = logits[0].argmax(0).numpy().astype(np.uint8)
            nibabel.save(
                nibabel.Nifti1Image(labels, image.affine.numpy()), out / f"{number}.nii.gz"
            )
    print(json.dumps({"iterations": iterations}))


if __name__ == "__main__":
    file, seconds, folder, count, which = sys.argv[1:]
    main(file, float(seconds), Path(folder), int(count), which)
