"""Networks that map noisy images, N×C×H×W in [0, 1], to denoised images of the same shape.

Any ``torch.nn.Module`` that does so can be a backbone: give its import path as ``class_path``.
"""

from n2n.backbones.dncnn import DnCNN
from n2n.backbones.nafnet import NAFNet
from n2n.backbones.paper import (
    Model1,
    Model2,
    Model2v1,
    Model2v2,
    Model3,
    Model4,
    Model5,
    Model6,
    ModelFinal,
    ModelPooling,
)
from n2n.backbones.unet import UNet

__all__ = [
    "DnCNN",
    "Model1",
    "Model2",
    "Model2v1",
    "Model2v2",
    "Model3",
    "Model4",
    "Model5",
    "Model6",
    "ModelFinal",
    "ModelPooling",
    "NAFNet",
    "UNet",
]
