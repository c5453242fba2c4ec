"""Taggers whose scores are known beforehand: the mean of each colour of what the model is given.

Three labels, so that it shows which colour came first, in which range, and what the padding was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# As SmilingWolf/wd-vit-tagger-v3 has them: the first lines of each of its blocks.
WD14_HEADER = "tag_id,name,category,count\n"
WD14_ROWS = (
    "9999999,general,9,1589178\n"
    "9999998,sensitive,9,3994361\n"
    "470575,1girl,0,5113288\n"
    "13197,long_hair,0,3645082\n"
    "385430,hatsune_miku,4,89677\n"
)


def mean_colour_model(
    *,
    side: int | str = 8,
    batch: int | str = "N",
    axes: str = "NHWC",
    weights: Sequence[Sequence[float]] = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    bias: Sequence[float] | None = None,
    divisor: float = 255,
    dtype: int = TensorProto.FLOAT,
    names: Sequence[str] = ("output",),
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """Scores are ``means @ weights / divisor + bias``, means in the order that the model gets.

    Args:
        weights: (colours, labels).
        names: of outputs; the first of several is an embedding, the means themselves.
    """
    numbers = helper.tensor_dtype_to_np_dtype(dtype)
    matrix = np.asarray(weights, np.float64) / divisor
    added = np.zeros(matrix.shape[1]) if bias is None else np.asarray(bias)
    spatial = [1, 2] if axes == "NHWC" else [2, 3]
    colours = len(weights)
    shape = [batch, side, side, colours] if axes == "NHWC" else [batch, colours, side, side]
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["means"], axes=spatial, keepdims=0),
        helper.make_node("Gemm", ["means", "weight", "bias"], [names[-1]]),
    ]
    outputs = [helper.make_tensor_value_info(names[-1], dtype, [batch, matrix.shape[1]])]
    if len(names) > 1:
        nodes.append(helper.make_node("Identity", ["means"], [names[0]]))
        outputs.insert(0, helper.make_tensor_value_info(names[0], dtype, [batch, colours]))
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("input", dtype, shape)],
        outputs,
        [
            numpy_helper.from_array(matrix.astype(numbers), "weight"),
            numpy_helper.from_array(added.astype(numbers), "bias"),
        ],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model


def write_tagger(
    folder: Path, labels: Sequence[str] = ("first", "second", "third"), **model: Any
) -> Path:
    """A folder in WD14's layout: `model.onnx` and `selected_tags.csv`, general tags all."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(mean_colour_model(**model), folder / "model.onnx")
    rows = [f"{number},{name},0,1\n" for number, name in enumerate(labels)]
    (folder / "selected_tags.csv").write_text(WD14_HEADER + "".join(rows), encoding="utf-8")
    return folder
