# %%
import lightning as L
import numpy as np
import torch

import n2n
from n2n import Denoiser, DenoisingModule, PairDataModule

# %%
# Denoise an array (H×W, H×W×C, or a stack of them) or a torch tensor (C×H×W or N×C×H×W). The result is of the same kind.
noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
denoised = Denoiser.from_checkpoint("course")(noisy)

# %%
# Train on arrays N×H×W or N×H×W×C, on tensors N×C×H×W, or on lists of images of different sizes.
# first[i] and second[i] are a pair.
first, second = np.random.default_rng(1).poisson(100, (2, 10, 64, 64)).astype(np.uint8)
data = PairDataModule(n2n.data.Arrays(first, second), batch_size=8)


# %%
# A backbone is any module that maps N×C×H×W in [0, 1] to the same shape.
class Residual(torch.nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width  # n2n keeps the arguments in the checkpoint, and asks for them as attributes
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(width, 1, 5, padding=2)
        )

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        denoised: torch.Tensor = noisy - self.layers(noisy)
        return denoised


# %%
module = DenoisingModule(Residual(), optimizer=lambda weights: torch.optim.Adam(weights, lr=1e-3))
trainer = L.Trainer(max_steps=50, logger=False)  # enough to try it out
trainer.fit(module, data)
denoised = Denoiser(module.backbone, channels=1)(first)
