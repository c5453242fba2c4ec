"""Files with strengths, as the command line has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasmith.core.errors import UserError
from lorasmith.lora_tools.inputs import LoraSource, parse_source, parse_sources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", LoraSource(Path("a.safetensors"))),
        ("a.safetensors:0.8", LoraSource(Path("a.safetensors"), 0.8, 0.8)),
        ("a.safetensors:-1e-1", LoraSource(Path("a.safetensors"), -0.1, -0.1)),
        ("a.safetensors:0.8:.5", LoraSource(Path("a.safetensors"), 0.8, 0.5)),
        ("a.safetensors:unet=0.8:te=0.5", LoraSource(Path("a.safetensors"), 0.8, 0.5)),
        ("a.safetensors:te=0", LoraSource(Path("a.safetensors"), 1.0, 0.0)),
        ("C:\\my loras\\a.safetensors:2", LoraSource(Path("C:\\my loras\\a.safetensors"), 2, 2)),
        ("C:\\my loras\\a.safetensors", LoraSource(Path("C:\\my loras\\a.safetensors"))),
        ("my:odd:name.pt", LoraSource(Path("my:odd:name.pt"))),
    ],
)
def test_strengths(text: str, expected: LoraSource) -> None:
    assert parse_source(text) == expected


def test_weights_of_parts_and_blocks() -> None:
    source = parse_source("a.safetensors:0.5:2:lbw=INX:x=0.25")
    assert source.weight("unet", "IN04") == 0.5
    assert source.weight("unet", "OUT04") == 0.125
    assert source.weight("text_encoder_2", "BASE") == 2.0
    assert parse_source("a.pt:lbw=OUTALL").weight("unet", "IN04") == 0.0
    assert parse_source("a.pt:0.5:lbw=1,0,0,0,0,0,1,0,0,0,0,0").weight("unet", "OUT00") == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.pt:1:2:3", "more than once"),
        ("a.pt:1:te=2", "more than once"),
        ("a.pt:unet=0.5:unet=0.9", "more than once"),
        ("a.pt:lbw=OUTALL:lbw=MIDD", "says lbw= twice"),
        ("a.pt:unet=x", "'x' is no strength"),
        ("a.pt:unet=inf", "'inf' is no strength"),
        ("a.pt:lbw=OUTAL", "did you mean"),
        ("a.pt:lbw=1,2", "2 values given"),
        ("a.pt:x=1", "without lbw="),
        (":1", "names no file"),
    ],
)
def test_what_is_not_understood(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_source(text)


@pytest.mark.parametrize("strength", ["nan", "inf", "1,5", "0x10", "strong"])
def test_what_follows_a_file_is_no_part_of_its_name(tmp_path: Path, strength: str) -> None:
    path = tmp_path / "a.pt"
    path.touch()
    for text in (f"{path}:{strength}", f"{path}:{strength}:0.5"):
        with pytest.raises(UserError, match=f"'{strength}' is no strength"):
            parse_source(text)
    odd = tmp_path / f"a.pt:{strength}"
    odd.touch()
    assert parse_source(f"{odd}:0.5") == LoraSource(odd, 0.5, 0.5)


def test_all_problems_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_sources(["a.pt:unet=x", "b.pt", "c.pt:1:2:3"])
    assert len(caught.value.problems) == 2


def test_from_python() -> None:
    """A mapping, pairs, paths and texts say the same."""
    a, b = Path("a.safetensors"), Path("b.safetensors")
    expected = [LoraSource(a, 0.8, 0.8), LoraSource(b)]
    assert parse_sources({"a.safetensors": 0.8, "b.safetensors": 1}) == expected
    assert parse_sources({a: 0.8, b: 1.0}) == expected
    assert parse_sources([("a.safetensors", 0.8), b]) == expected
    assert parse_sources(["a.safetensors:0.8", "b.safetensors"]) == expected
    assert parse_sources(a) == parse_sources("a.safetensors") == [LoraSource(a)]
    with pytest.raises(UserError, match=r"'nan' is no strength"):
        parse_sources({a: float("nan")})
