"""What runs a tagger's network: onnxruntime, or torch for DeepDanbooru's own file and timm's."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lorasmith.core.errors import DOCTOR, CheckpointError, SettingsError
from lorasmith.core.installation import package_line
from lorasmith.core.telemetry import switch_off_telemetry
from lorasmith.curation.tagger.folders import TaggerFiles

Device = Literal["auto", "cpu", "gpu"]

PROVIDERS = {
    "CUDAExecutionProvider": "NVIDIA graphics card (CUDA)",
    "ROCMExecutionProvider": "AMD graphics card (ROCm)",
    "MIGraphXExecutionProvider": "AMD graphics card (MIGraphX)",
    "DmlExecutionProvider": "graphics card (DirectML)",
    "CoreMLExecutionProvider": "Apple's CoreML",
    "CPUExecutionProvider": "processor",
}
"""onnxruntime's, in the order in which they are tried; others are not used."""

CPU = "CPUExecutionProvider"
_NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
BOTH = "take the model and its label file from the same place"
_CHOSEN_OUTPUTS = ("pred", "prob", "output", "tag")

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Backend:
    """A network that runs.

    Args:
        run: batch -> scores or logits (batch, labels).
        axes: "NHWC" or "NCHW".
        side: of the square that it takes; ``None`` for any.
        batch: how many images it must be given; ``None`` for any number.
        labels: names of the outputs that the file itself holds.
        place: what it computes on, in words.
    """

    run: Run
    axes: Literal["NHWC", "NCHW"]
    side: int | None
    batch: int | None
    labels: tuple[str, ...]
    place: str


def open_backend(files: TaggerFiles, device: Device, labels: int | None) -> Backend:
    """
    Args:
        device: "gpu" insists on one.
        labels: how many there are, if that is known.

    Raises:
        CheckpointError: the model is damaged, is no tagger, or needs what is not installed.
        SettingsError: there is no graphics card.
    """
    suffix = files.weights.suffix.lower()
    if suffix == ".onnx":
        return _open_onnx(files.weights, device, labels)
    if suffix == ".pt":
        return _open_deepdanbooru(files.weights, device)
    return _open_timm(files, device)


def configured_side(config: Mapping[str, Any]) -> int | None:
    """Pixels, of timm's ``pretrained_cfg``."""
    size = config.get("input_size")
    side = size[2] if isinstance(size, list) and len(size) == 3 else None
    return side if isinstance(side, int) and side > 0 else None


def _open_onnx(path: Path, device: Device, labels: int | None) -> Backend:
    switch_off_telemetry()
    try:
        import onnxruntime as ort
        from onnxruntime.capi import onnxruntime_pybind11_state as native
    except ImportError as error:
        hint = f"pip install onnxruntime, or onnxruntime-gpu; {DOCTOR}"
        raise CheckpointError.of(path, "needs onnxruntime, which is missing", hint) from error
    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError)
    for each in vars(native).values():  # NoSuchFile, InvalidProtobuf, InvalidGraph, …
        if isinstance(each, type) and issubclass(each, Exception):
            errors += (each,)
    session = _session(ort, path, device, errors)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in _NUMBERS:
        what = f"takes {', '.join(f'{one.type} {one.shape}' for one in inputs)}"
        raise CheckpointError.of(path, f"is not a tagger: {what}", "it must take one image")
    axes = "NHWC" if shape[3] == 3 else "NCHW" if shape[1] == 3 else None
    sides = [n for n in (shape[1:3] if axes == "NHWC" else shape[2:4]) if isinstance(n, int)]
    if axes is None or len(set(sides)) > 1:
        hint = "it must take squares in three colours"
        raise CheckpointError.of(path, f"is not a tagger: it takes {shape}", hint)
    number_type, name = _NUMBERS[inputs[0].type], inputs[0].name
    output = _choose_output(outputs, labels)

    def run(batch: np.ndarray) -> np.ndarray:
        try:
            (values,) = session.run([output], {name: batch.astype(number_type, copy=False)})
        except errors as error:
            what = f"cannot be run: {_first_line(error)}"
            hint = "take fewer at a time (--batch), or the processor (--device cpu)"
            raise CheckpointError.of(path, what, hint) from error
        return np.asarray(values, dtype=np.float32)

    return Backend(
        run,
        "NHWC" if axes == "NHWC" else "NCHW",
        sides[0] if sides else None,
        shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None,
        _labels_in_metadata(session.get_modelmeta().custom_metadata_map),
        PROVIDERS.get(session.get_providers()[0], session.get_providers()[0]),
    )


def _session(ort: Any, path: Path, device: Device, errors: tuple[type[Exception], ...]) -> Any:
    present = [name for name in PROVIDERS if name in ort.get_available_providers()]
    if device == "cpu":
        present = [CPU]
    elif device == "gpu" and present == [CPU]:
        what = "onnxruntime finds no graphics card that it can use"
        hint = "pip install onnxruntime-gpu (NVIDIA) or onnxruntime-directml (Windows)"
        raise SettingsError.of("device", what, hint)
    if "CUDAExecutionProvider" in present and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA's libraries as PyTorch's own packages bring them
    options = ort.SessionOptions()
    options.log_severity_level = 4  # What goes wrong is raised; the rest is about its insides.
    try:
        return ort.InferenceSession(str(path), options, providers=present)
    except errors as error:
        what = f"cannot be opened by onnxruntime: {_first_line(error)}"
        hint = "download it again, with all files that lie beside it"
        raise CheckpointError.of(path, what, hint) from error


def _first_line(error: Exception) -> str:
    """Without onnxruntime's own numbers: "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : …"."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition(" : ")[2][:200]


def _choose_output(outputs: Sequence[Any], labels: int | None) -> str:
    """Of several (embedding, logits, prediction) that which has a score for each label, and is
    called a prediction."""
    fitting = [one for one in outputs if len(one.shape) == 2 and one.shape[1] == labels]
    fitting = fitting or list(outputs)
    for word in _CHOSEN_OUTPUTS:
        for one in fitting:
            if word in one.name.lower():
                return str(one.name)
    return str(fitting[0].name)


def _labels_in_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """DeepDanbooru's ONNX holds the tags as a list in Python's notation."""
    try:
        names = ast.literal_eval(metadata.get("tags", "[]"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _open_deepdanbooru(path: Path, device: Device) -> Backend:
    from lorasmith.curation.tagger.deepdanbooru import SIDE, load_deepdanbooru

    network, names = load_deepdanbooru(path)
    run, place = _torch_run(network, device)
    return Backend(run, "NHWC", SIDE, None, tuple(names), place)


def _open_timm(files: TaggerFiles, device: Device) -> Backend:
    path, architecture = files.weights, files.config.get("architecture")
    if not isinstance(architecture, str):
        what = "is of timm's kind, and no config.json beside it names its architecture"
        raise CheckpointError.of(path, what, "take the model's ONNX file, or put config.json there")
    try:
        import timm
    except ImportError as error:
        hint = f"take the model's ONNX file, or {package_line('timm')}"
        raise CheckpointError.of(path, "needs timm, which is missing", hint) from error
    except RuntimeError as error:  # torchvision's, where it is for another build of torch
        what = f"needs timm, which cannot be imported: {_first_line(error)}"
        hint = "take the model's ONNX file, or install the torchvision that goes with your torch"
        raise CheckpointError.of(path, what, hint) from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = files.config
    details = config.get("model_args")
    details = details if isinstance(details, Mapping) else {}
    try:
        network = timm.create_model(
            architecture, pretrained=False, num_classes=config.get("num_classes"), **details
        )
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        what = f"cannot be opened by timm: {_first_line(error)}"
        raise CheckpointError.of(path, what, BOTH) from error
    run, place = _torch_run(network, device)
    pretrained = config.get("pretrained_cfg")
    side = configured_side(pretrained if isinstance(pretrained, Mapping) else {})
    return Backend(run, "NCHW", side, None, (), place)


def _torch_run(network: Any, device: Device) -> tuple[Run, str]:
    import torch

    cuda = torch.cuda.is_available() and device != "cpu"
    if device == "gpu" and not cuda:
        what = "PyTorch finds no graphics card that it can use"
        raise SettingsError.of("device", what, "leave it out, or install PyTorch for your card")
    place = torch.device("cuda" if cuda else "cpu")
    network.eval().to(place)

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            values = network(torch.from_numpy(batch).to(place))
        return np.asarray(values.float().cpu().numpy(), dtype=np.float32)

    return run, PROVIDERS["CUDAExecutionProvider"] if cuda else PROVIDERS[CPU]
