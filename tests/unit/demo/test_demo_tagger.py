"""The tagger that ships: what it knows, how well, and that torch computes the same."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tools.demo_model.train_tagger import (
    FOLDER,
    GENERAL_TAGS,
    TAGS,
    TaggerNet,
    as_found,
    held_out_quality,
    random_drawing,
    to_onnx,
    write_folder,
)
from torch import Tensor
from torch.nn import functional as F

from lorasmith.curation.tagger.folders import DEMO_FOLDER
from lorasmith.curation.tagger.inputs import to_input
from lorasmith.curation.tagger.model import Tagger, open_tagger
from lorasmith.demo.character import TRIGGER
from lorasmith.demo.world import UNSAID, VALUES, all_tags, random_creature

PAGE = Path(__file__).parents[3] / "docs" / "demo-tagger.md"


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return open_tagger("demo")


@pytest.fixture(scope="module")
def inputs(tagger: Tagger) -> np.ndarray:
    """64 drawings as the model takes them."""
    rng = Random("torch against onnx")
    drawings = (as_found(random_drawing(rng).image, rng, largest=512) for _ in range(64))
    return np.stack([to_input(drawing, tagger.form) for drawing in drawings])


def torch_scores(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    """The graph carried out by torch, operation by operation."""
    tensors = {w.name: torch.tensor(numpy_helper.to_array(w)) for w in model.graph.initializer}
    tensors["input"] = torch.from_numpy(inputs)
    for node in model.graph.node:
        options = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        (name,) = node.output
        tensors[name] = torch_operation(node.op_type, [tensors[n] for n in node.input], options)
    return tensors["output"].numpy()


def torch_operation(kind: str, x: list[Tensor], options: dict[str, Any]) -> Tensor:
    match kind:
        case "Cast":
            return x[0].float()
        case "Transpose":
            return x[0].permute(options["perm"])
        case "Div":
            return x[0] / x[1]
        case "Sub":
            return x[0] - x[1]
        case "Conv":
            stride, pads = options["strides"][0], options["pads"]
            assert len(set(pads)) == 1
            return F.conv2d(x[0], x[1], x[2], stride, pads[0])
        case "Relu":
            return F.relu(x[0])
        case "MaxPool":
            return F.max_pool2d(x[0], options["kernel_shape"][0], options["strides"][0])
        case "Flatten":
            return x[0].flatten(1)
        case "Gemm":
            assert options["transB"] == 1
            return F.linear(*x)
    assert kind == "Sigmoid", kind
    return torch.sigmoid(x[0])


def test_it_is_a_folder_as_wd14_taggers_are() -> None:
    assert DEMO_FOLDER == FOLDER
    assert {path.name for path in FOLDER.iterdir()} == {"model.onnx", "selected_tags.csv"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000
    with open(FOLDER / "selected_tags.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["tag_id", "name", "category", "count"]
    assert [row[2] for row in rows[1:]] == ["0"] * len(GENERAL_TAGS) + ["4"]


def test_it_knows_the_words_of_the_demos_captions(tagger: Tagger) -> None:
    names = {name.replace("_", " ") for name in tagger.labels.names}
    assert names == set(TAGS)
    captions = {tag for n in range(300) for tag in all_tags(random_creature(Random(n)))}
    assert captions <= names
    assert TRIGGER in names
    assert not names & UNSAID
    values = {value for each in VALUES.values() for value in each} - UNSAID - set(VALUES["colour"])
    assert values <= names


def test_torch_computes_the_same(tagger: Tagger, inputs: np.ndarray) -> None:
    """The shipped weights, by another library; both in float32."""
    expected = torch_scores(onnx.load(FOLDER / "model.onnx"), inputs)
    assert np.abs(tagger.scores(inputs) - expected).max() < 1e-4


def test_what_is_exported_is_the_net(inputs: np.ndarray, tmp_path: Path) -> None:
    """Norms folded in: an untrained net whose norms do something, weights as they are."""
    torch.manual_seed(0)
    net = TaggerNet().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.normal_(tensor)
    write_folder(net, tmp_path)
    onnx.save(to_onnx(net, np.float32), tmp_path / "model.onnx")
    with torch.no_grad():
        expected = torch.sigmoid(net(torch.from_numpy(inputs))).numpy()
    assert np.abs(open_tagger(str(tmp_path)).scores(inputs) - expected).max() < 1e-4


def test_drawings_of_all_sizes_are_read() -> None:
    """A few of the held-out ones; all of them below."""
    overall = held_out_quality(60)["all"]
    assert overall.true > 400
    assert overall.precision > 0.97
    assert overall.recall > 0.95


@pytest.mark.slow
def test_the_page_says_how_well_it_reads() -> None:
    """Within one drawing in a hundred: another processor may see a doubtful one otherwise."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w -]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == [*TAGS, "all"]
    quality = held_out_quality(500)
    for tag, true, precision, recall in rows:
        one = quality[tag]
        assert one.true == int(true)
        assert one.precision == pytest.approx(float(precision), abs=max(0.01, 1.5 / one.true))
        assert one.recall == pytest.approx(float(recall), abs=max(0.01, 1.5 / one.true))
