"""Against hand-made ONNX graphs: a score for each label is the mean of one colour."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from PIL import Image
from safetensors.torch import save_file
from tests.tiny_taggers import WD14_HEADER, mean_colour_model, write_tagger

from lorasmith.core.errors import CheckpointError, SettingsError, UserError
from lorasmith.curation.tagger import deepdanbooru
from lorasmith.curation.tagger.folders import DEFAULT, DEMO, KNOWN, find_tagger
from lorasmith.curation.tagger.inputs import to_input
from lorasmith.curation.tagger.model import Tagger, open_tagger

RED_ISH = Image.new("RGB", (8, 8), (204, 102, 51))  # 0.8, 0.4, 0.2 of 255


def scores_of(tagger: Tagger, *images: Image.Image) -> list[list[float]]:
    batch = np.stack([to_input(image, tagger.form) for image in images])
    return [[round(float(score), 4) for score in row] for row in tagger.scores(batch)]


def problem_of(source: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        open_tagger(str(source)).open()
    (problem,) = caught.value.problems
    assert problem.hint
    return str(problem)


def test_wd14s_folder(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path / "wd")))
    assert tagger.name == "wd"
    assert tagger.labels.names == ("first", "second", "third")
    assert scores_of(tagger, RED_ISH) == [[0.2, 0.4, 0.8]]  # blue first
    assert tagger.place == "processor"


def test_what_the_model_gets_is_padded_in_white(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path)))
    black = Image.new("RGB", (8, 4))
    assert scores_of(tagger, black) == [[0.5, 0.5, 0.5]]


def test_channels_can_be_said(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path)), channels="rgb")
    assert scores_of(tagger, RED_ISH) == [[0.8, 0.4, 0.2]]


def test_the_side_is_the_models_own(tmp_path: Path) -> None:
    assert open_tagger(str(write_tagger(tmp_path / "a", side=24))).form.side == 24
    assert open_tagger(str(write_tagger(tmp_path / "b", side="size"))).form.side == 448


def test_a_model_of_one_image_at_a_time(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path, batch=1)))
    white, black = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))
    assert scores_of(tagger, RED_ISH, white, black) == [[0.2, 0.4, 0.8], [1] * 3, [0] * 3]


def test_a_model_of_four_at_a_time_gets_four(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path, batch=4)))
    assert scores_of(tagger, *[RED_ISH] * 6) == [[0.2, 0.4, 0.8]] * 6


def test_half_precision(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path, dtype=TensorProto.FLOAT16)))
    (scores,) = scores_of(tagger, RED_ISH)
    assert scores == pytest.approx([0.2, 0.4, 0.8], abs=2e-3)  # 11 bits of 51 to 204, and of 1/255


def test_logits_become_probabilities(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path, divisor=51, bias=(-4, -4, -4))))
    (scores,) = scores_of(tagger, RED_ISH)
    expected = [1 / (1 + np.exp(-logit)) for logit in (1 - 4, 2 - 4, 4 - 4)]
    assert scores == pytest.approx(expected, abs=1e-4)


def test_of_several_outputs_the_prediction(tmp_path: Path) -> None:
    """As deepghs' ONNX files have them: embedding, logits, prediction."""
    folder = write_tagger(
        tmp_path, ("a", "b"), weights=((1, 0), (0, 1), (0, 0)), names=("embedding", "prediction")
    )
    assert scores_of(open_tagger(str(folder)), RED_ISH) == [[0.2, 0.4]]


def test_timms_axes_take_what_config_json_says(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path, axes="NCHW", divisor=1)
    config = {"pretrained_cfg": {"mean": [0.25, 0, 0], "std": [1, 0.5, 1]}}
    (folder / "config.json").write_text(json.dumps(config))
    assert scores_of(open_tagger(str(folder)), Image.new("RGB", (8, 8), (255, 51, 0))) == [
        pytest.approx([1 - 0.25, 0.4, 0], abs=1e-4)
    ]


def test_cl_tagger(tmp_path: Path) -> None:
    model = mean_colour_model(axes="NCHW", divisor=1)
    onnx.save(model, tmp_path / "model_optimized.onnx")
    entry = {str(n): {"tag": tag, "category": "General"} for n, tag in enumerate("abc")}
    (tmp_path / "tag_mapping.json").write_text(json.dumps(entry))
    tagger = open_tagger(str(tmp_path))
    white = Image.new("RGB", (8, 8), (255, 127, 0))
    sigmoid = [1 / (1 + np.exp(-logit)) for logit in (-1, 127 / 127.5 - 1, 1)]
    assert scores_of(tagger, white) == [pytest.approx(sigmoid, abs=1e-4)]


def test_deepdanboorus_onnx_has_its_tags_inside(tmp_path: Path) -> None:
    model = mean_colour_model(divisor=1, metadata={"tags": "['1girl', 'smile', 'rating:safe']"})
    onnx.save(model, tmp_path / "deepdanbooru.onnx")
    tagger = open_tagger(str(tmp_path / "deepdanbooru.onnx"))
    assert scores_of(tagger, RED_ISH) == [[0.8, 0.4, 0.2]]  # red first, 0 to 1
    assert tagger.labels.categories == ("general", "general", "rating")
    assert tagger.form.padding == "edge"


def small_deepdanbooru(tags: int = 3) -> dict[str, torch.Tensor]:
    """With a sixteenth of the widths; numbered as the published file is."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def add(number: int, size: int, inner: int, outer: int) -> None:
        shape = (outer, inner, size, size)
        scale = 0.5 * (inner * size * size) ** -0.5
        weights[f"n_Conv_{number}.weight"] = torch.randn(shape, generator=generator) * scale
        weights[f"n_Conv_{number}.bias"] = torch.randn(outer, generator=generator) * 0.1

    add(0, 7, 3, 4)
    number, channels = 1, 4
    stages = ((4, 16, 3), (8, 32, 8), (16, 64, 20), (16, 64, 20), (32, 128, 3), (64, 256, 3))
    for index, (middle, outer, blocks) in enumerate(stages):
        shortcut_last = index == 3
        shortcut = number + 3 if shortcut_last else number
        add(shortcut, 1, channels, outer)
        number += 0 if shortcut_last else 1
        for block in range(blocks):
            add(number, 1, channels, middle)
            add(number + 1, 3, middle, middle)
            add(number + 2, 1, middle, outer)
            channels, number = outer, number + 3
            number += 1 if shortcut_last and block == 0 else 0
    assert number == 178
    add(178, 1, channels, tags)
    del weights["n_Conv_178.bias"]
    return weights


def test_deepdanboorus_own_file(tmp_path: Path) -> None:
    tags = ["1girl", "smile", "rating:safe"]
    torch.save({**small_deepdanbooru(), "tags": tags}, tmp_path / "model-resnet_custom_v3.pt")
    tagger = open_tagger(str(tmp_path))
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    (scores,) = scores_of(tagger, Image.fromarray(noise))
    assert tagger.labels.names == ("1girl", "smile", "safe")
    assert all(0 < score < 1 for score in scores)


def test_deepdanboorus_padding_is_tensorflows() -> None:
    """A first convolution that takes its first pixel: with 2 rows of padding before and 3 behind,
    output (0, 0) sees none of the image, and (1, 1) its first pixel."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in small_deepdanbooru(1).items()}
    weights["n_Conv_0.weight"][0, 0, 0, 0] = 1
    weights["n_Conv_1.weight"][0, 0] = 1  # the shortcut alone, all the way
    for number in (11, 36, 100, 158, 168, 178):
        weights[f"n_Conv_{number}.weight"][0, 0] = 1
    network = deepdanbooru.DeepDanbooru(weights)
    pixels = torch.zeros(1, 128, 128, 3)
    pixels[0, 0, 0, 0] = 1.0
    # Pooling spreads (1, 1) to (0, 0), strides keep that, and one pixel is left at the end.
    expected = torch.sigmoid(torch.tensor(1.0))
    assert network(pixels).item() == pytest.approx(expected.item(), abs=1e-6)
    pixels = pixels.roll((4, 4), (1, 2))  # (3, 3) after the stride, (1, 1) after pooling
    assert network(pixels).item() == 0.5


def test_another_torch_file_is_no_deepdanbooru(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "model.pt")
    assert "it lacks n_Conv_0.weight" in problem_of(tmp_path)


def test_a_torch_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    torch.save({"tags": [Path("x")]}, tmp_path / "model.pt")
    assert "cannot be read as weights: UnpicklingError" in problem_of(tmp_path)


class _MeanColours(torch.nn.Module):
    def __init__(self, labels: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, labels, bias=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(pixels.mean((2, 3)))


def write_timm(folder: Path, header: str = WD14_HEADER) -> Path:
    folder.mkdir()
    save_file({"head.weight": torch.eye(3) * 4}, folder / "model.safetensors")
    (folder / "selected_tags.csv").write_text(header + "1,a,0,1\n2,b,0,1\n3,c,0,1\n")
    pretrained = {"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "means", "num_classes": 3, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_timms_folder_through_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm is stood in for: what it makes by the architecture's name is a network like any."""

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> torch.nn.Module:
        assert (name, pretrained) == ("means", False)
        return _MeanColours(num_classes)

    timm = types.SimpleNamespace(create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)
    tagger = open_tagger(str(write_timm(tmp_path / "wd")))
    # SmilingWolf's own program: blue first, and a sigmoid.
    sigmoid = [1 / (1 + np.exp(-4 * (2 * share - 1))) for share in (0.2, 0.4, 0.8)]
    assert scores_of(tagger, RED_ISH) == [pytest.approx(sigmoid, abs=1e-4)]
    assert tagger.form.side == 16


def test_timms_folder_without_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "needs timm, which is missing (take the model's ONNX file" in problem_of(
        write_timm(tmp_path / "wd")
    )


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "needs onnxruntime, which is missing (pip install" in problem_of(write_tagger(tmp_path))


def test_a_folder_without_labels(tmp_path: Path) -> None:
    (write_tagger(tmp_path) / "selected_tags.csv").unlink()
    message = problem_of(tmp_path)
    assert message.startswith(f"{tmp_path}: holds no label file (selected_tags.csv")
    assert "put the one there that lies beside the model" in message


def test_a_wrong_count_of_labels(tmp_path: Path) -> None:
    message = problem_of(write_tagger(tmp_path, ("a", "b")))
    assert "gives 3 scores for an image, and selected_tags.csv has 2 labels" in message
    assert message.startswith(str(tmp_path / "model.onnx"))


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    message = problem_of(write_tagger(tmp_path, bias=(0, np.nan, 0)))
    assert "scores that are not numbers" in message
    assert "download it again" in message


def test_scores_that_are_not_numbers_name_the_image(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_tagger(tmp_path)))
    batch = np.zeros((2, 8, 8, 3), np.float32)
    batch[1] = np.nan
    with pytest.raises(CheckpointError, match=r"not numbers .* for b\.png"):
        tagger.scores(batch, ["a.png", "b.png"])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<html>", "cannot be opened by onnxruntime"),
    ],
)
def test_a_damaged_model(tmp_path: Path, content: bytes, what: str) -> None:
    (write_tagger(tmp_path) / "model.onnx").write_bytes(content)
    assert what in problem_of(tmp_path)


def test_a_model_that_takes_no_images(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path, weights=[(1, 0, 0)] * 5)
    assert "is not a tagger: it takes ['N', 8, 8, 5]" in problem_of(folder)


def test_which_file_of_several(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path)
    (folder / "model.onnx").rename(folder / "one.onnx")
    (folder / "other.onnx").write_bytes(b"x")
    assert "holds several models (name the file itself: one.onnx, other.onnx)" in problem_of(folder)
    assert open_tagger(str(folder / "one.onnx")).form.side == 8


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "holds no tagger" in problem_of(tmp_path)


def test_a_mistyped_name() -> None:
    assert "did you mean wd-vit-tagger-v3?" in problem_of("wd-vit-taggr-v3")
    unlike = problem_of("zzz")
    assert all(name in unlike for name in (DEMO, *KNOWN))


@pytest.mark.parametrize(
    ("word", "name"),
    [("wd14", DEFAULT), ("WD14_tagger", DEFAULT), ("deepbooru", "deepdanbooru")],
)
def test_words_of_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, name: str
) -> None:
    monkeypatch.setattr(
        "lorasmith.models.hub.fetch_files", lambda *_: write_tagger(tmp_path / "snapshot")
    )
    told: list[str] = []
    # Scores are kept by the name: it is the same, whatever word was used.
    assert find_tagger(word, told.append).name == name
    assert told == [KNOWN[name]]


def test_the_hub_gives_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tagger(tmp_path / "snapshot" / "cl_tagger_1_02")
    asked: list[str] = []

    def fetch_files(repository: str, choose: object) -> Path:
        assert callable(choose)
        names = ["README.md", "cl_tagger_1_02/model.onnx", "cl_tagger_1_02/selected_tags.csv"]
        names += ["cl_tagger_1_02/model.onnx.data", "cl_tagger_1_00/model.onnx"]
        asked.extend([repository, *choose(names)])
        return folder.parent

    monkeypatch.setattr("lorasmith.models.hub.fetch_files", fetch_files)
    told: list[str] = []
    files = find_tagger("cl_tagger", told.append)
    assert told == [KNOWN["cl_tagger"]]
    inside = ("model.onnx", "model.onnx.data", "selected_tags.csv")
    assert asked == ["cella110n/cl_tagger", *(f"cl_tagger_1_02/{name}" for name in inside)]
    assert files.name == "cl_tagger"
    assert files.weights == folder / "model.onnx"


def test_a_repository_without_a_tagger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lorasmith.models.hub.fetch_files", lambda repository, choose: choose(["README.md"])
    )
    assert problem_of("owner/model").startswith("owner/model: holds no tagger")


def test_a_graphics_card_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(SettingsError, match="onnxruntime finds no graphics card"):
        open_tagger(str(write_tagger(tmp_path)), device="gpu").open()


def test_the_fingerprint_changes_with_what_changes_scores(tmp_path: Path) -> None:
    folder = write_tagger(tmp_path / "a")
    first = open_tagger(str(folder)).fingerprint
    assert open_tagger(str(folder)).fingerprint == first
    assert open_tagger(str(folder), channels="rgb").fingerprint != first
    other = open_tagger(str(write_tagger(tmp_path / "b", bias=(0, 0, 0.1)))).fingerprint
    assert other != first
