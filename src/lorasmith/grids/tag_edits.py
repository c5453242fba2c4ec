"""Changes to the ``<lora:…>`` of a prompt: another file, other strengths, other blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorasmith.core.errors import PromptError
from lorasmith.prompts.lora_tags import LoraTag, format_tag
from lorasmith.prompts.parse import parse_prompt


@dataclass(frozen=True, slots=True)
class LoraEdit:
    """What becomes of a tag; ``None`` leaves it as it is.

    Args:
        name: of another file.
        removed: there is to be no LoRA.
        unet, text_encoder: strengths.
        blocks: what ``lbw=`` is to say.
    """

    name: str | None = None
    removed: bool = False
    unet: float | None = None
    text_encoder: float | None = None
    blocks: str | None = None

    def then(self, other: LoraEdit) -> LoraEdit:
        """Both; they change different things."""
        named = ("name", "unet", "text_encoder", "blocks")
        given = {key: value for key in named if (value := getattr(other, key)) is not None}
        return replace(self, **given, removed=self.removed or other.removed)


def edit_prompt(prompt: str, target: str, edit: LoraEdit, relatives: Sequence[str] = ()) -> str:
    """The prompt with the tag of ``target`` changed; without a tag, one is added to its end.

    Args:
        target: the name in the tag; "" where there can be no doubt: for the only one.
        relatives: names that belong together, such as a run's snapshots: the only one of these is
            meant then, and tags of others stay as they are.

    Raises:
        PromptError: there is no such tag, or more than one that it could be.
    """
    tag = _target(prompt, target, relatives)
    if tag is None and edit.removed:
        return prompt
    if tag is None and edit.name is None:
        raise PromptError.of(f'"{prompt}"', "has no LoRA to change", "add one, as in <lora:NAME:1>")
    if tag is None:
        assert edit.name is not None
        return f"{prompt} {_written(LoraTag(edit.name), edit)}".lstrip()
    if edit.removed:
        before, after = prompt.split(tag.source, 1)
        return " ".join(part for part in (before.rstrip(), after.lstrip()) if part)
    return prompt.replace(tag.source, _written(tag, edit), 1)


def _target(prompt: str, target: str, relatives: Sequence[str]) -> LoraTag | None:
    tags = parse_prompt(prompt).loras
    if target:
        named = [tag for tag in tags if tag.name == target]
        if not named:
            has = ", ".join(tag.name for tag in tags) or "none"
            raise PromptError.of(f'"{prompt}"', f"has no <lora:{target}:…>", f"its LoRAs: {has}")
        return named[0]
    chosen = [tag for tag in tags if not relatives or tag.name in relatives]
    if len(chosen) > 1:
        names = " or ".join(f"AXIS@{tag.name}=" for tag in chosen)
        raise PromptError.of(
            f'"{prompt}"', f"names {len(chosen)} LoRAs", f"say which one is meant: {names}"
        )
    return chosen[0] if chosen else None


def _written(tag: LoraTag, edit: LoraEdit) -> str:
    changed = replace(
        tag,
        name=edit.name or tag.name,
        unet=tag.unet if edit.unet is None else edit.unet,
        text_encoder=tag.text_encoder if edit.text_encoder is None else edit.text_encoder,
        ambiguous=False,  # By name there is only one way to read two strengths.
    )
    if edit.blocks is not None:
        weights, x = split_blocks(edit.blocks)
        changed = replace(changed, block_weights=weights, block_x=x)
    return format_tag(changed)


def split_blocks(text: str) -> tuple[str, float | None]:
    """``INX:x=0.3`` as block weights and what X stands for.

    Raises:
        ValueError: they cannot be read.
    """
    weights, colon, x = text.partition(":")
    number = float(x.strip().lower().removeprefix("x=")) if colon else None
    _ = LoraTag("", block_weights=weights, block_x=number).blocks
    return weights, number
