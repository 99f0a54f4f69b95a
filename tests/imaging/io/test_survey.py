import tracemalloc
from pathlib import Path

import nibabel
import numpy as np

from imaging.io.survey import survey


def test_voxels_of_label_maps_are_not_kept(tmp_path: Path) -> None:
    labels = np.zeros((64, 64, 64), dtype=np.uint8)
    (tmp_path / "labelsTr").mkdir()
    for number in range(10):
        path = tmp_path / "labelsTr" / f"a{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), path)
    tracemalloc.start()
    try:
        found = survey(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.labels) == 10
    assert most < 8 * labels.nbytes
