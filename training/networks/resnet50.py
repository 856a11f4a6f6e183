"""ResNet-50 in one dimension, MONAI's, with the padding left out of its pooling.

(He et al. 2016, doi 10.1109/CVPR.2016.90.) 16 M parameters, not the 25.6 M of the one for images:
its kernels are 3 long instead of 3 by 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from monai.networks.nets import resnet50
from torch import Tensor, nn

from training.networks.masks import N_INPUTS, inside, mean, with_masks


@dataclass(frozen=True)
class ResNet50Config:
    """A factor of all widths; with 1, it is ResNet-50."""

    widen: float = 1.0
    dropout: float = 0.0


class ResNet50(nn.Module):
    """(sig [n, 8, time] in mV, lead_mask [n, 8], sample_mask [n, time]) -> logits [n, outputs]."""

    stride = 32

    def __init__(self, n_outputs: int, config: ResNet50Config) -> None:
        super().__init__()
        self.body = resnet50(
            spatial_dims=1,
            n_input_channels=N_INPUTS,
            conv1_t_size=7,
            conv1_t_stride=2,
            widen_factor=config.widen,
            feed_forward=False,
        )
        width = self.body.in_planes
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, n_outputs))

    def forward(self, sig: Tensor, lead_mask: Tensor, sample_mask: Tensor) -> Tensor:
        body = self.body
        x = body.act(body.bn1(body.conv1(with_masks(sig, lead_mask, sample_mask))))
        x = body.layer4(body.layer3(body.layer2(body.layer1(body.maxpool(x)))))
        return self.head(mean(x, inside(x, sample_mask, self.stride)))
