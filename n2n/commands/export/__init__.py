"""``n2n export``: write a checkpoint as ONNX or torch.export."""
