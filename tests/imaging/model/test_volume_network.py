import pytest
import torch

from imaging.model.network import build_loss, build_network, in_full_precision
from tests.imaging.model.volume_models import tiny_volume_recipe

NETWORKS = [
    {"network": "UNet", "stem_stride": 1, "widths": "4 8 16"},
    {"network": "UNet", "stem_stride": 2, "widths": "4 8 16"},
    {"network": "DynUNet", "deep_supervision": 1, "widths": "4 8 16"},
    {"network": "DynUNet", "widths": "4 8 16"},
    {"network": "SegResNet", "deep_supervision": 1, "widths": "8 16 32"},
]


@pytest.mark.parametrize("numbers", NETWORKS)
@pytest.mark.parametrize("thick", [2.0, 6.0])
def test_every_network_learns_and_answers_on_the_patch(
    numbers: dict[str, object], thick: float
) -> None:
    recipe = tiny_volume_recipe(spacing_Z=thick, **numbers)  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = build_network(recipe).train()
    images = torch.randn(2, 1, *recipe.patch_XYZ)
    labels = torch.randint(0, 3, (2, *recipe.patch_XYZ))
    loss = build_loss(recipe)(in_full_precision(network(images)), labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    with torch.inference_mode():
        logits = network.eval()(images)
    assert logits.shape == (2, 3, *recipe.patch_XYZ)
