from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tolerances import NETWORK, assert_near
from tests.unit.adapters.namings import NAMINGS, renamed

from lorasmith.adapters.file import load_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.errors import LoraFileError, PromptError
from lorasmith.core.files import read_safetensors_header
from lorasmith.formats.hashes import autov3
from lorasmith.prompts.lora_tags import LoraTag
from lorasmith.prompts.schedule import StepMark, StepRange
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest


@pytest.fixture
def library(lora_folder) -> LoraLibrary:
    return LoraLibrary(lora_folder)


@pytest.fixture
def probe(model):
    """UNet and text encoder outputs on fixed inputs."""

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        fixed = type(text)(torch.ones_like(text.prompt_embeds))
        with torch.no_grad():
            unet = model.denoise(noisy, torch.tensor([500]), fixed)
            return unet, model.encode_text(["red body, star"]).prompt_embeds

    with torch.no_grad():
        text = model.encode_text([""])
    return run


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cat", "cat.safetensors"),
        ("cat.safetensors", "cat.safetensors"),
        ("dog v1.5", "deep/dog v1.5.safetensors"),
        ("deep/dog v1.5", "deep/dog v1.5.safetensors"),
        ("one/twin", "one/twin.safetensors"),
    ],
)
def test_names(library, lora_folder, name, path) -> None:
    assert library.find(name) == lora_folder / path


def test_states_of_a_training_are_no_loras(tmp_path) -> None:
    (tmp_path / "zorp" / "state").mkdir(parents=True)
    (tmp_path / "zorp" / "state" / "step-00000600.pt").write_bytes(b"state")
    (tmp_path / "zorp" / "zorp.safetensors").write_bytes(b"lora")
    assert [path.name for path in LoraLibrary(tmp_path).files] == ["zorp.safetensors"]


def test_an_unknown_name_gets_the_nearest(library) -> None:
    with pytest.raises(PromptError, match=r"did you mean cat\?"):
        library.find("Cats")
    with pytest.raises(PromptError, match="it holds broken, cat, dog"):
        library.find("zzzzzz")


def test_a_name_of_two_files_gets_both(library) -> None:
    with pytest.raises(PromptError, match=r"one/twin\.safetensors, two/twin\.safetensors"):
        library.find("twin")


def test_check_lists_all_without_opening_files(library) -> None:
    tags = [LoraTag("cat"), LoraTag("no"), LoraTag("broken"), LoraTag("twin"), LoraTag("no")]
    assert [problem.where for problem in library.check(tags)] == ["<lora:no>", "<lora:twin>"]


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("blocks", "prefix"),
    [
        ("BASE", "lora_te_"),
        ("M00", "lora_unet_mid_block_"),
        ("IN03", "lora_unet_down_blocks_1_attentions_0_"),
        ("0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0", "lora_unet_mid_block_"),
        ("NONE", "nothing"),
        ("ALL", "lora_"),
    ],
)
def test_one_block_is_the_file_with_that_block_alone(
    model, lora_folder, tmp_path, probe, blocks, prefix
) -> None:
    tensors = load_file(lora_folder / "cat.safetensors")
    alone = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    before = probe()
    expected = before
    if alone:
        save_file(alone, tmp_path / "alone.safetensors")
        with LoraLibrary(tmp_path).attached(model, [LoraTag("alone", 0.7, 0.7)]):
            expected = probe()
    with LoraLibrary(lora_folder).attached(model, [LoraTag("cat", 0.7, 0.7, block_weights=blocks)]):
        ours = probe()
    for a, b in zip(ours, expected, strict=True):
        assert_near(a, b, NETWORK)
    assert alone == {} or any(not torch.equal(a, b) for a, b in zip(ours, before, strict=True))


def test_a_strength_is_the_merge_of_as_much_of_the_delta(
    model, library, lora_folder, probe
) -> None:
    tensors = load_file(lora_folder / "cat.safetensors")
    roots = {"lora_unet_": model.denoiser, "lora_te_text_model_": model.text_encoder}
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    with library.attached(model, [LoraTag("cat", 0.6, 0.6)]):
        adapted = probe()
    with torch.no_grad():
        for prefix, root in roots.items():
            for name, module in root.named_modules():
                key = prefix + name.replace(".", "_")
                if f"{key}.lora_up.weight" not in tensors:
                    continue
                up, down = (tensors[f"{key}.lora_{side}.weight"] for side in ("up", "down"))
                delta = up.flatten(1) @ down.flatten(1) * (tensors[f"{key}.alpha"] / len(down))
                before.append((module.weight, module.weight.clone()))
                module.weight += 0.6 * delta.reshape(module.weight.shape)
        merged = probe()
        for weight, value in before:
            weight.copy_(value)
    assert len(before) == sum(name.endswith("lora_up.weight") for name in tensors)
    for a, b in zip(adapted, merged, strict=True):
        assert_near(a, b, NETWORK)


def test_the_name_from_training_finds_a_renamed_file(lora_folder, tmp_path) -> None:
    path = tmp_path / "sub" / "my-cat-v2.safetensors"
    path.parent.mkdir()
    path.write_bytes((lora_folder / "cat.safetensors").read_bytes())
    library = LoraLibrary(tmp_path)
    assert library.find("cat") == path
    assert library.check([LoraTag("cat"), LoraTag("dog")])[0].where == "<lora:dog>"


def test_two_names_of_one_file_are_refused(library, model, probe) -> None:
    before = probe()
    with (
        pytest.raises(PromptError, match="same file"),
        library.attached(model, [LoraTag("cat"), LoraTag("cat.safetensors")]),
    ):
        pass
    assert torch.equal(probe()[0], before[0])


def test_a_lora_comes_and_goes(library, model, probe) -> None:
    plain = probe()
    with library.attached(model, [LoraTag("cat")]):
        full = probe()
    steps = StepRange(StepMark("2"), StepMark("0.5"))
    with library.attached(model, [LoraTag("cat", steps=steps)]) as attached:
        for step, on in enumerate([False, False, True, True, True, False, False]):
            attached.at(step, 10)
            unet, text = probe()
            assert torch.equal(unet, full[0] if on else plain[0])
            assert torch.equal(text, full[1])


def test_strengths_reach_their_part_and_nothing_stays(library, model, probe) -> None:
    before = probe()
    cases = {
        (1.0, 1.0): (False, False),
        (1.0, 0.0): (False, True),
        (0.0, 1.0): (True, False),
        (0.0, 0.0): (True, True),
    }
    for (unet, te), (same_unet, same_text) in cases.items():
        with library.attached(model, [LoraTag("cat", unet, te)]):
            inside = probe()
        assert torch.equal(inside[0], before[0]) is same_unet
        assert torch.equal(inside[1], before[1]) is same_text
        after = probe()
        assert torch.equal(after[0], before[0])
        assert torch.equal(after[1], before[1])


def test_a_lora_adds_its_strength_times_its_product(library, model, lora_folder) -> None:
    tensors = load_file(lora_folder / "cat.safetensors")
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
    block = model.denoiser.mid_block.attentions[0].transformer_blocks[0].attn1
    x = torch.randn(3, down.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = block.to_q(x)
        with library.attached(model, [LoraTag("cat", 0.6, 0.0)]):
            adapted = block.to_q(x)
    scale = tensors[f"{key}.alpha"] / down.shape[0]
    assert_near(adapted - plain, 0.6 * scale * x @ (up @ down).T, NETWORK)


def test_any_number_at_once_in_any_order(library, model, probe) -> None:
    before = probe()
    tags = [LoraTag("cat", 0.5, 0.5), LoraTag("deep/dog v1.5", 0.7, 0.2), LoraTag("one/twin")]
    with library.attached(model, tags):
        forward = probe()
    with library.attached(model, tags[::-1]):
        backward = probe()
    for a, b, c in zip(forward, backward, before, strict=True):
        assert_near(a, b, NETWORK)
        assert not torch.allclose(a, c)
    assert all(torch.equal(a, b) for a, b in zip(probe(), before, strict=True))


def test_a_broken_file_leaves_the_model_alone(library, model, probe) -> None:
    before = probe()
    with (
        pytest.raises(LoraFileError, match=r"broken\.safetensors"),
        library.attached(model, [LoraTag("cat"), LoraTag("broken")]),
    ):
        pass
    assert all(torch.equal(a, b) for a, b in zip(probe(), before, strict=True))


def test_files_are_read_once(library, model, monkeypatch) -> None:
    from lorasmith.sampling import lora_library as loras

    read = []
    monkeypatch.setattr(loras, "load_lora", lambda path: read.append(path) or load_lora(path))
    for strength in (1.0, 0.5):
        with library.attached(model, [LoraTag("cat", strength, strength)]):
            pass
    assert len(read) == 1


def test_tensors_that_fit_nothing_are_reported(model, lora_folder, tmp_path) -> None:
    tensors = load_file(lora_folder / "cat.safetensors")
    tensors["lora_unet_somewhere_else.lora_up.weight"] = torch.zeros(2, 2)
    save_file(tensors, tmp_path / "odd.safetensors")
    warnings = []
    library = LoraLibrary(tmp_path, observer=warnings.append)
    for _ in range(2):
        with library.attached(model, [LoraTag("odd")]):
            pass
    (notice,) = warnings
    assert notice.level == "warning"
    assert "lora_unet_somewhere_else" in notice.text


@pytest.mark.slow
def test_prompts_with_different_loras_in_one_call(library, model) -> None:
    requests = [
        ImageRequest(f"red body {tag}", seed=1, steps=3)
        for tag in ("", "<lora:cat:1>", "<lora:cat:0.5>", "", "<lora:cat:0>")
    ]
    done = sorted(generate(model, requests, loras=library), key=lambda image: image.index)
    plain, full, half, again, off = (np.asarray(image.image) for image in done)
    assert np.array_equal(plain, again)
    assert np.abs(plain.astype(int) - off).max() <= 1
    assert not np.array_equal(plain, full)
    assert not np.array_equal(half, full)


def test_the_hash_is_that_of_the_file_without_its_header(lora_folder, tmp_path) -> None:
    path = lora_folder / "cat.safetensors"
    save_file(load_file(path), tmp_path / "bare.safetensors")
    data = (tmp_path / "bare.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert autov3(tmp_path / "bare.safetensors") == hashlib.sha256(data[start:]).hexdigest()[:12]
    assert autov3(path) == read_safetensors_header(path).metadata["sshs_model_hash"][:12]


@pytest.mark.slow
def test_a_file_under_any_program_s_names_draws_the_same(
    model, lora_folder, tmp_path, probe
) -> None:
    network = AdapterNetwork.load(load_file(lora_folder / "cat.safetensors"), model.adapter_roots())
    tags = [LoraTag("named", 0.7, 0.4, block_weights="rest=1 M00=0.5")]
    seen = []
    for title in ("kohya", "te1 in any family", "ComfyUI", "diffusers 0.21", "peft within"):
        (tmp_path / title).mkdir()
        save_file(renamed(network, NAMINGS[title]), tmp_path / title / "named.safetensors")
        with LoraLibrary(tmp_path / title).attached(model, tags):
            seen.append(probe())
    plain = probe()
    for unet, text in seen:
        assert torch.equal(unet, seen[0][0])
        assert torch.equal(text, seen[0][1])
        assert not torch.equal(unet, plain[0])
        assert not torch.equal(text, plain[1])


def test_words_that_a_file_carries_are_no_layers_and_not_missed(
    model, lora_folder, tmp_path
) -> None:
    """They are the embeddings' matter."""
    bundled = {"bundle_emb.cat.string_to_param.*": torch.zeros(2, 4)}
    save_file({**load_file(lora_folder / "cat.safetensors"), **bundled}, tmp_path / "b.safetensors")
    said = []
    with LoraLibrary(tmp_path, observer=said.append).attached(model, [LoraTag("b")]):
        pass
    assert said == []
