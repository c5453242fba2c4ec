"""Models of transformers, tiny and random, asked in the ways that their kinds want."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tests import tiny_captioners
from tests.tiny_captioners import (
    tiny_blip,
    tiny_blip2,
    tiny_encoder_decoder,
    tiny_florence2,
    tiny_git,
    tiny_idefics3,
    tiny_llava,
)

from lorasmith.core.errors import CheckpointError, SettingsError, Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.curation.captioner.answers import Answer
from lorasmith.curation.captioner.conventions import (
    KNOWN,
    ModelFolder,
    convention_of,
    find_model,
)
from lorasmith.curation.captioner.local import LocalCaptioner

MAKERS = {
    "blip": tiny_blip,
    "blip2": tiny_blip2,
    "encoder-decoder": tiny_encoder_decoder,
    "florence2": tiny_florence2,
    "git": tiny_git,
    "idefics3": tiny_idefics3,
    "llava": tiny_llava,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("captioners")
    return {name: make(folder / name) for name, make in MAKERS.items()}


def images(count: int = 3) -> list[Image.Image]:
    """As unlike as can be, and the same each time."""
    numbers = np.random.default_rng(1)
    return [
        Image.fromarray(numbers.integers(0, 256, (20 + 9 * n, 30, 3), dtype=np.uint8))
        if n % 2
        else Image.new("RGB", (40, 20 + n), ("red", "blue", "white")[n // 2])
        for n in range(count)
    ]


def captioner(folder: Path, prompt: str | None = None, **options: Any) -> LocalCaptioner:
    model = find_model(str(folder))
    prompt = model.prompt("descriptive") if prompt is None else prompt
    return LocalCaptioner(model, prompt, **{"max_tokens": 8, **options})


def texts(captioner: LocalCaptioner, some: list[Image.Image]) -> list[str]:
    answers = captioner.answers(some, Controls())
    assert all(isinstance(answer, Answer) for answer in answers)
    return [answer.text for answer in answers if isinstance(answer, Answer)]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_is_captioned_as_each_image_by_itself(models, name: str, beams: int) -> None:
    one = captioner(models[name], beams=beams)
    together = texts(one, images())
    assert together == [text for image in images() for text in texts(one, [image])]
    assert all(together)
    assert len(set(together)) > 1, "all images look the same to it: the test sees no order"


@pytest.mark.parametrize("name", MAKERS)
def test_no_prompt_and_no_mark_is_left_in_the_caption(models, name: str) -> None:
    for text in texts(captioner(models[name]), images(2)):
        assert "<" not in text
        assert "describe" not in text.lower() or name != "llava"
        assert "assistant" not in text


@pytest.mark.parametrize("name", ["blip", "blip2", "git"])
def test_a_prompt_is_continued(models, name: str) -> None:
    with_prompt = texts(captioner(models[name], "a picture of"), images())
    assert all(text.startswith("a picture of ") for text in with_prompt)
    assert all(text.count("picture of") == 1 for text in with_prompt)


def test_what_blip_says_is_what_transformers_says(models) -> None:
    model = transformers.BlipForConditionalGeneration.from_pretrained(models["blip"]).eval()
    processor = transformers.BlipProcessor.from_pretrained(models["blip"])
    for image, text in zip(images(), texts(captioner(models["blip"]), images()), strict=True):
        output = model.generate(**processor(images=image, return_tensors="pt"), max_new_tokens=8)
        assert processor.decode(output[0], skip_special_tokens=True).strip() == text


def test_another_request_is_another_caption(models) -> None:
    first = texts(captioner(models["llava"], "describe the picture"), images())
    assert first != texts(captioner(models["llava"], "a black cat"), images())


def test_an_end_is_told_from_the_greatest_length(models) -> None:
    model = captioner(models["blip"])
    loaded, _ = model._loaded
    bias = loaded.text_decoder.cls.predictions.bias
    for end in (2, 0):
        with torch.no_grad():
            bias[2] = -1e4 if end != 2 else 1e4
        (answer,) = model.answers(images(1), Controls())
        assert isinstance(answer, Answer)
        assert answer.finished == (end == 2)
        assert (answer.text == "") == (end == 2)


def test_a_stop_is_heeded_within_a_caption(models) -> None:
    class Impatient(Controls):
        looks = 0

        def check(self, message: str = "") -> None:
            self.looks += 1
            if self.looks == 3:
                self.stop()
            super().check(message)

    controls = Impatient()
    with pytest.raises(Stopped, match="goes on there"):
        captioner(models["blip"], max_tokens=100, min_tokens=100).answers(images(1), controls)
    assert controls.looks == 3


def test_a_batch_that_is_too_large_for_the_memory_is_halved(models, monkeypatch) -> None:
    model = captioner(models["blip"], batch=5)
    expected = texts(model, images(5))
    generate, sizes = LocalCaptioner._generate, []

    def small(self: LocalCaptioner, some: list[Image.Image], controls: Controls) -> Any:
        sizes.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("no more")
        return generate(self, some, controls)

    monkeypatch.setattr(LocalCaptioner, "_generate", small)
    assert texts(model, images(5)) == expected
    assert sizes == [5, 2, 3, 1, 2]
    assert model.batch <= 2


@pytest.mark.slow
def test_four_bits(tmp_path) -> None:
    pytest.importorskip("bitsandbytes")
    model = captioner(tiny_llava(tmp_path, width=64), four_bit=True)
    assert all(texts(model, images(2)))
    loaded, _ = model._loaded
    kinds = {name: type(module).__name__ for name, module in loaded.named_modules()}
    quantized = [name for name, kind in kinds.items() if kind == "Linear4bit"]
    assert quantized
    assert all("language_model" in name for name in quantized)


def changed(folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_a_model_that_brings_code_is_refused(models, tmp_path) -> None:
    def remote(config: dict[str, Any]) -> None:
        config |= {"model_type": "their_own", "auto_map": {"AutoModel": "evil.Model"}}

    folder = changed(models["blip"], tmp_path, remote)
    (folder / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(UserError, match="needs code from its page; that is not run"):
        captioner(folder)


def test_the_first_form_of_florence_2_is_told(models, tmp_path) -> None:
    def first(config: dict[str, Any]) -> None:
        config["text_config"]["model_type"] = "florence2_language"

    with pytest.raises(CheckpointError, match="florence-community"):
        find_model(str(changed(models["florence2"], tmp_path, first)))


def test_a_model_of_another_kind_is_refused(models, tmp_path) -> None:
    folder = changed(models["blip"], tmp_path, lambda config: config.update(model_type="bert"))
    with pytest.raises(UserError, match="does not write about pictures"):
        captioner(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "noise"])
def test_broken_folders_are_told(models, tmp_path, name: str, damage: str) -> None:
    folder = changed(models["blip"], tmp_path, lambda config: None)
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"" if damage == "empty" else b"\x93\xff{noise" * 9)
    with pytest.raises(UserError):
        captioner(folder).answers(images(1), Controls())


def test_names_that_are_none(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="did you mean joycaption"):
        find_model("joycaptoin")
    with pytest.raises(CheckpointError, match="cannot be reached"):
        find_model("nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        find_model("empty")


def test_only_what_follows_instructions_writes_tags(models) -> None:
    assert "tags" in find_model(str(models["llava"])).prompt("tags")
    with pytest.raises(CheckpointError, match="dataset tag"):
        find_model(str(models["blip"])).prompt("tags")


ONE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] | trim }} {% endfor %}assistant :"
TEMPLATES = {
    "the image is a part of the message": tiny_captioners.CHAT_TEMPLATE,
    "put by the template itself": ONE.replace(
        "{{ m['content']", "{{ '<image> ' if m['role'] == 'user' else '' }}{{ m['content']"
    ),
    "a mark in the text": ONE,
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", ["llava", "joycaption"])
def test_chat_templates_of_every_kind(models, tmp_path, template: str, name: str) -> None:
    shutil.copytree(models["llava"], tmp_path / name)
    model = captioner(tmp_path / name, "a black cat")
    _, processor = model._loaded
    processor.chat_template = TEMPLATES[template]
    text = " ".join(model._chat(processor).split())
    system = "system : You are a helpful image captioner. " if name == "joycaption" else ""
    assert text == f"{system}user : <image> a black cat assistant :"
    assert len(texts(model, images(2))) == 2


def test_a_template_that_takes_no_image_is_told(models) -> None:
    model = captioner(models["llava"])
    _, processor = model._loaded
    processor.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(CheckpointError, match="no place for a picture"):
        model.answers(images(1), Controls())
    processor.chat_template = None
    assert texts(model, images(1))


def test_a_model_without_a_processor_takes_no_prompt(models) -> None:
    with pytest.raises(CheckpointError, match="takes no prompt"):
        captioner(models["encoder-decoder"], "a picture of").answers(images(1), Controls())


def test_what_takes_videos_needs_torchvision(models, tmp_path, monkeypatch) -> None:
    from lorasmith.curation.captioner import local

    folder = changed(models["llava"], tmp_path, lambda config: config.update(model_type="qwen3_vl"))
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="need torchvision, which is not installed"):
        captioner(folder)


def test_a_package_that_is_missing_is_named(models, monkeypatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ImportError("Package `num2words` is required to run SmolVLM processor.")

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", fail)
    with pytest.raises(CheckpointError, match=r"needs another package: Package `num2words`"):
        captioner(models["blip"]).answers(images(1), Controls())


def test_a_model_is_checked_before_its_weights_are_fetched(models, monkeypatch) -> None:
    fetched: list[list[str]] = []
    names = [path.name for path in models["blip"].iterdir()]

    def fetch(repository: str, choose: Callable[[list[str]], list[str]]) -> Path:
        fetched.append(choose([*names, "model.bin", "flax_model.msgpack", "onnx/model.onnx"]))
        return models["blip"]

    monkeypatch.setattr("lorasmith.curation.captioner.conventions.fetch_files", fetch)

    def refuse(folder: ModelFolder) -> None:
        raise UserError.of(folder.name, "no")

    with pytest.raises(UserError, match="no"):
        find_model("someone/blip", refuse)
    assert fetched == [["config.json"]]
    assert find_model("someone/blip").path == models["blip"]
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(fetched[-1])
    assert not {"model.bin", "flax_model.msgpack", "onnx/model.onnx"} & set(fetched[-1])


def test_four_bits_need_their_library(models, monkeypatch) -> None:
    from lorasmith.curation.captioner import local

    monkeypatch.setattr(local, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="bitsandbytes is not installed"):
        captioner(models["blip"], four_bit=True)


def test_joycaption_is_told_by_its_name() -> None:
    assert "Booru" in convention_of("llava", KNOWN["joycaption"].repository).prompts["tags"]
    assert convention_of("llava", "llava-hf/llava-1.5-7b-hf").system == ""
    assert convention_of("qwen2_5_vl").manner == "chat"
