"""Lists of ups and downs, made by walking diffusers' own modules as the old programs did."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.lora_tools.made_files import empty_networks
from torch import Tensor, nn

from lorasmith.adapters.file import load_lora
from lorasmith.core.errors import LoraFileError, UserError
from lorasmith.lora_tools.convert.cloneofsimo import is_cloneofsimo
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.merge import merge

UNET, TEXT = {"Attention", "GEGLU"}, {"CLIPAttention"}
BLOCK = ".transformer_blocks.0."
RANK = 2


def walked(
    model: nn.Module, ancestors: set[str], *, old: bool = True
) -> list[tuple[str, nn.Module]]:
    """Linear layers below modules of these classes, in the order of the program's own walk.

    Args:
        old: diffusers' blocks until 0.17 made their feed-forward before the second attention.
    """
    found: list[tuple[str, nn.Module]] = []
    for path, module in model.named_modules():
        if type(module).__name__ in ancestors:
            inner = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Linear)]
            found += [(f"{path}.{name}", layer) for name, layer in inner]

    if not old:
        return found
    ordered: list[tuple[str, nn.Module]] = []
    for _, block in groupby(found, key=lambda entry: entry[0].partition(BLOCK)[0]):
        ordered += sorted(block, key=lambda entry: place(entry[0]))
    return ordered


def place(path: str) -> int:
    inside = path.partition(BLOCK)[2].partition(".")[0]
    return ("", "attn1", "ff", "attn2").index(inside)


def pairs_of(layers: list[tuple[str, nn.Module]]) -> list[Tensor]:
    """up, down, up, down, …: the first number of each says which pair it is."""
    tensors = []
    for number, (_, layer) in enumerate(layers):
        outputs, inputs = layer.weight.shape
        tensors += [torch.full((outputs, RANK), number + 1.0), torch.full((RANK, inputs), -1.0)]
    return [tensor.half() for tensor in tensors]


def expect(out: Path, layers: list[tuple[str, nn.Module]], prefix: str, inside: str = "") -> None:
    found = load_file(out)
    for number, (path, layer) in enumerate(layers):
        key = f"{prefix}{inside}{path}".replace(".", "_")
        up, down = found[f"{key}.lora_up.weight"], found[f"{key}.lora_down.weight"]
        assert up[0, 0] == number + 1
        assert (up.shape[0], down.shape[1]) == tuple(layer.weight.shape)
        assert found[f"{key}.alpha"] == RANK


@pytest.mark.slow_but_first
@pytest.mark.parametrize("old", [True, False], ids=["before 0.17", "since"])
@pytest.mark.parametrize("published", ["sd15", "sd21"])
def test_a_unets_list(tmp_path, published, old) -> None:
    layers = walked(empty_networks(published)["unet"], UNET, old=old)
    # GEGLU's projection is of the 16 blocks; the attention's Linear layers are 8 of each.
    assert len(layers) == 16 * 9
    torch.save(pairs_of(layers), tmp_path / "lora.pt")
    done = convert(tmp_path / "lora.pt", tmp_path / "out.safetensors")
    assert (done.before, done.tensors) == ("cloneofsimo", 3 * 144)
    expect(done.out, layers, "lora_unet_")


def test_the_first_lists_have_no_geglu(tmp_path) -> None:
    layers = walked(empty_networks("sd15")["unet"], {"Attention"})
    torch.save(pairs_of(layers), tmp_path / "lora.pt")
    expect(convert(tmp_path / "lora.pt", tmp_path / "o.safetensors").out, layers, "lora_unet_")


@pytest.mark.parametrize("beside", ["lora.text_encoder.pt", "lora_txt.pt"])
def test_the_text_encoders_list_beside_it_is_read_too(tmp_path, beside) -> None:
    networks = empty_networks("sd15")
    unet, text = walked(networks["unet"], UNET), walked(networks["text_encoder"], TEXT)
    assert len(text) == 48
    torch.save(pairs_of(unet), tmp_path / "lora.pt")
    torch.save(pairs_of(text), tmp_path / beside)
    done = convert(tmp_path / "lora.pt", tmp_path / "both.safetensors")
    assert done.notes == (f"the text encoder is from {beside}",)
    expect(done.out, unet, "lora_unet_")
    expect(done.out, text, "lora_te_", "text_model.")
    alone = convert(tmp_path / beside, tmp_path / "alone.safetensors")
    expect(alone.out, text, "lora_te_", "text_model.")


def test_cloneofsimos_safetensors(tmp_path) -> None:
    layers = walked(empty_networks("sd15")["unet"], UNET)
    pairs = pairs_of(layers)
    named = {f"unet:{n // 2}:{('up', 'down')[n % 2]}": pair for n, pair in enumerate(pairs)}
    named["<s1>"] = torch.ones(768)
    metadata = {"unet": '["GEGLU", "Attention"]', "unet:0:rank": "2", "<s1>": "<embed>", "a": "b"}
    save_file(named, tmp_path / "lora.safetensors", metadata)
    done = convert(tmp_path / "lora.safetensors", tmp_path / "out.safetensors", to="diffusers")
    assert done.notes == ("left out, as no part of a LoRA: <s1>",)
    back = convert(done.out, tmp_path / "kohya.safetensors")
    expect(back.out, layers, "lora_unet_")


def test_the_content_tells_not_the_name(tmp_path) -> None:
    pairs = pairs_of(walked(empty_networks("sd15")["unet"], UNET))
    torch.save(pairs, tmp_path / "list.safetensors")
    named = {f"unet:{n // 2}:{('up', 'down')[n % 2]}": pair for n, pair in enumerate(pairs)}
    save_file(named, tmp_path / "named.pt")
    one, other = (
        convert(tmp_path / name, tmp_path / f"{name}.out.safetensors", dry_run=True)
        for name in ("list.safetensors", "named.pt")
    )
    assert one.tensors == other.tensors == 3 * 144


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(4, 2), torch.ones(2, 4), torch.ones(4, 2)], "a list of 3 tensors"),
        ([torch.ones(4, 2), torch.ones(3, 4)], "pair 0 is"),
        ([torch.ones(4, 2), torch.ones(2, 4)], "its 1 pairs are not those"),
        ([torch.ones(4, 2), "x"], "holds no tensors by name"),
        ([], "holds no tensors by name"),
    ],
)
def test_other_lists_are_refused(tmp_path, content, said) -> None:
    path = tmp_path / "lora.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=said):
        convert(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    assert not is_cloneofsimo(tmp_path / "nowhere.pt")


def test_every_tool_reads_them_or_says_what_to_do(tmp_path: Path) -> None:
    layers = walked(empty_networks("sd15")["unet"], UNET)
    numbered = tmp_path / "numbered.pt"
    torch.save(pairs_of(layers), numbered)
    named = tmp_path / "named.safetensors"
    convert(numbered, named)
    sources = [LoraSource(numbered, 0.5), LoraSource(named, 0.25)]
    report = merge(sources, tmp_path / "sum.safetensors")
    assert len(report.modules) == len(layers)
    assert {len(module.ranks) for module in report.modules} == {2}
    assert all(module.ranks == (RANK, RANK) for module in report.modules)
    with pytest.raises(LoraFileError, match=r"numbers for names.*lorasmith convert"):
        load_lora(numbered)
