"""The steps from the light on a camera's sensor to the JPEG file, each a function on torch tensors."""

from n2n.data.corruption.pipeline.camera import Camera

__all__ = ["Camera"]
