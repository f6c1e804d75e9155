"""Writing and running files of the two export formats, ONNX and torch.export."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram

from n2n.commands.export.tracing import main_line
from n2n.errors import InputError

ExportFormat = Literal["onnx", "torch"]
Network = Callable[[Tensor], Tensor]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "torch": ".pt2"}
# Names of the input and the output in an ONNX file, and of the model card in a torch.export file.
INPUT, OUTPUT = "noisy", "denoised"
CARD = "model_card.json"

# The oldest version that the exporter writes without conversion, so that older runtimes can read it too.
_OPSET = 18
# ONNX files are protocol buffers, which hold at most 2 GiB. Some of it is left for the graph.
_MOST_BYTES = 2**31 - 2**24


def require_packages(file_format: ExportFormat) -> None:
    """Raise InputError if a package that the format needs is not installed."""
    needed = ("onnx", "onnxruntime", "onnxscript") if file_format == "onnx" else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise InputError(f"--format onnx needs {', '.join(missing)}: pip install {' '.join(missing)}")


def write_torch(program: ExportedProgram, path: Path, card: dict[str, str]) -> Network:
    """Write a torch.export archive; return the network that is read back from it."""
    # Not directly to the file: torch ends the process when a disk is full.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={CARD: json.dumps(card)})
    path.write_bytes(content.getbuffer())
    # Read back from the file, but opened by Python: on Windows, torch cannot open names with other than English letters.
    content = io.BytesIO(path.read_bytes())
    network: Network = torch.export.load(content).module()
    return network


def write_onnx(program: ExportedProgram, path: Path, card: dict[str, str]) -> Network:
    """Write one ONNX file; return the network that onnxruntime reads back from it, on the CPU."""
    import onnx
    import onnxruntime

    held = sum(tensor.nbytes for tensor in program.state_dict.values())
    if held > _MOST_BYTES:
        raise InputError(f"the weights take {held / 1e9:.1f} GB and an ONNX file holds 2: choose --format torch")
    try:
        names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": _OPSET}
        made = torch.onnx.export(program, (), **names, dynamo=True, external_data=False, verbose=False)
        assert made is not None
        model: Any = made.model_proto
        _tidy(model)
        onnx.helper.set_model_props(model, card)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:  # the three packages raise their own kinds
        raise InputError(
            f"the backbone cannot be written as ONNX ({main_line(error)}): choose --format torch, or operators that ONNX has"
        ) from error
    return lambda noisy: torch.from_numpy(session.run([OUTPUT], {INPUT: noisy.numpy()})[0])


def _tidy(model: Any) -> None:
    """Name the axes of an ONNX model, and remove the source lines of its nodes, which name local folders."""
    graph = model.graph
    axes = graph.input[0].type.tensor_type.shape.dim
    names = {dim.dim_param: name for dim, name in zip(axes, ("batch", "channels", "height", "width"), strict=True)}
    for value in (*graph.value_info, *graph.input):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names and dim.dim_param:
                dim.dim_param = names[dim.dim_param]
    graph.output[0].CopyFrom(graph.input[0])
    graph.output[0].name = OUTPUT
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, *model.functions):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
