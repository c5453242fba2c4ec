"""Changes to a prompt's LoRA tags."""

from __future__ import annotations

import pytest

from lorasmith.core.errors import PromptError
from lorasmith.grids.axes import LoraEdit, edit_prompt
from lorasmith.prompts.parse import parse_prompt


@pytest.mark.parametrize(
    ("tag", "edit", "expected"),
    [
        ("<lora:a:0.7>", LoraEdit(name="b"), ("b", 0.7, 0.7, None)),
        ("<lora:a:0.7>", LoraEdit(unet=0.2), ("a", 0.2, 0.7, None)),
        ("<lora:a:0.7:0.3>", LoraEdit(text_encoder=0.0), ("a", 0.7, 0.0, None)),
        ("<lora:a:0.7:0.3>", LoraEdit(unet=1.0, text_encoder=1.0), ("a", 1.0, 1.0, None)),
        ("<lora:a:0.7:lbw=OUTALL>", LoraEdit(name="b", unet=0.5), ("b", 0.5, 0.7, "OUTALL")),
        ("<lora:a:0.7:OUTALL>", LoraEdit(unet=0.5), ("a", 0.5, 0.7, "OUTALL")),
        ("<lora:a:0.7:lbw=OUTALL>", LoraEdit(blocks="INS"), ("a", 0.7, 0.7, "INS")),
    ],
)
def test_a_tag_keeps_what_is_not_changed(tag: str, edit: LoraEdit, expected: tuple) -> None:
    prompt = edit_prompt(f"a cat {tag}, asleep", "", edit)
    (found,) = parse_prompt(prompt).loras
    assert (found.name, found.unet, found.text_encoder, found.block_weights) == expected
    assert prompt.startswith("a cat <lora:")
    assert prompt.endswith(">, asleep")


def test_a_preset_may_say_what_its_x_is() -> None:
    (tag,) = parse_prompt(edit_prompt("<lora:a:1>", "", LoraEdit(blocks="INX:x=0.3"))).loras
    assert tag.blocks == parse_prompt("<lora:a:1:lbw=INX:x=0.3>").loras[0].blocks


def test_a_tag_is_added_where_there_is_none() -> None:
    prompt = edit_prompt("a cat", "", LoraEdit(name="b", unet=0.5, text_encoder=0.5))
    (tag,) = parse_prompt(prompt).loras
    assert (tag.name, tag.unet, tag.text_encoder) == ("b", 0.5, 0.5)
    with pytest.raises(PromptError, match="no LoRA to change"):
        edit_prompt("a cat", "", LoraEdit(unet=0.5))


def test_removing() -> None:
    assert edit_prompt("a cat <lora:a:1> , asleep", "", LoraEdit(removed=True)) == "a cat , asleep"
    assert edit_prompt("a cat", "", LoraEdit(removed=True)) == "a cat"


def test_of_several_tags_the_axis_says_which() -> None:
    prompt = "a cat <lora:style:0.5> <lora:cat:1>"
    with pytest.raises(PromptError, match="AXIS@style= or AXIS@cat="):
        edit_prompt(prompt, "", LoraEdit(unet=0.1))
    assert "<lora:style:0.5>" in edit_prompt(prompt, "cat", LoraEdit(name="dog"))
    with pytest.raises(PromptError, match="its LoRAs: style, cat"):
        edit_prompt(prompt, "bird", LoraEdit(name="dog"))


def test_a_runs_snapshots_take_the_place_of_its_own_tag_alone() -> None:
    names = ["cat-000001", "cat"]
    edit = LoraEdit(name="cat-000001")
    changed = edit_prompt("<lora:style:0.5> <lora:cat:1>", "", edit, names)
    assert [tag.name for tag in parse_prompt(changed).loras] == ["style", "cat-000001"]
    added = edit_prompt("<lora:style:0.5>", "", edit, names)
    assert [tag.name for tag in parse_prompt(added).loras] == ["style", "cat-000001"]
