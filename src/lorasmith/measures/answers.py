"""What a LoRA answers to: the tokens that its text encoder's part moves most, and the words among
them that change what is predicted. Needs neither images nor metadata.

The first is what sd-scripts' ``lora_interrogator.py`` looks for (embeddings of every token alone,
with the LoRA and without); here a token is encoded in a row of three, which under CLIP's causal
mask gives it the state that it has in a row of 77. A token can be the beginning of a word, so
behind the strongest beginnings all short endings are tried, before predictions decide.

Shapes: V tokens of the vocabulary, W words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lorasmith.measures.noise_probe import Probe, Row
from lorasmith.measures.records import DIVERGED, finite
from lorasmith.models.tokenizer import clip_tokenizer

if TYPE_CHECKING:
    from lorasmith.adapters.network import AdapterNetwork
    from lorasmith.diffusion.schedule import NoiseSchedule
    from lorasmith.models.diffusion_model import DiffusionModel

END = "</w>"
BATCH = 1024
TOKENS, STARTS, ENDINGS = 24, 3, 4
LETTERS = 4
"""Of an ending."""
SEED, TIMESTEPS = 0, 4


@dataclass(frozen=True, slots=True)
class Answers:
    """
    Args:
        tokens: those that are moved most, the most first; parts of words end in "-".
        shifts: how far, as a share of the state's length.
        usual_shift: the median over all tokens.
        words: that were tried: tokens, joined parts, tags.
        moved: (W,) how far predictions move with each as the prompt, by the median over the words.
    """

    tokens: list[str]
    shifts: list[float]
    usual_shift: float
    words: list[str]
    moved: list[float]

    def ranked(self) -> list[tuple[str, float]]:
        """The words with what moves most first."""
        return sorted(zip(self.words, self.moved, strict=True), key=lambda one: -one[1])


@torch.inference_mode()
def token_shifts(
    model: DiffusionModel,
    network: AdapterNetwork,
    tokens: Tensor,
    before: Sequence[int] = (),
    batch_done: Callable[[], object] = lambda: None,
) -> Tensor:
    """(V,) how far the state of each token moves, as a share of its length.

    Args:
        network: not attached.
        tokens: (V,) numbers.
        before: tokens that stand before each.
    """
    count = clip_tokenizer().get_vocab_size()
    begin, end = count - 2, count - 1
    shifts = []
    for ids in tokens.split(BATCH):
        columns = [torch.full_like(ids, one) for one in (begin, *before)]
        rows = torch.stack([*columns, ids, torch.full_like(ids, end)], dim=1)
        base = model.encode_rows(rows).prompt_embeds[:, len(columns)].float()
        with network.attached():
            own = model.encode_rows(rows).prompt_embeds[:, len(columns)].float()
        moved = (own - base).norm(dim=1) / base.norm(dim=1).clamp(min=1e-9)
        shifts.append(moved.nan_to_num(DIVERGED, DIVERGED).clamp(max=DIVERGED).cpu())
        batch_done()
    return torch.cat(shifts)


def all_tokens() -> Tensor:
    """(V,) the vocabulary but for begin and end mark, which come last."""
    return torch.arange(clip_tokenizer().get_vocab_size() - 2)


def measure_answers(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    network: AdapterNetwork,
    tags: Sequence[str],
    rows: Sequence[Row],
    batch_done: Callable[[], object] = lambda: None,
) -> Answers:
    """
    Args:
        network: not attached.
        tags: words that may be what it answers to, as its metadata or captions say.
        rows: images to predict with each word as the prompt; their captions are not used.
    """
    tokens: list[str] = []
    moved: list[float] = []
    usual = 0.0
    joined: list[str] = []
    if network.parts().get("text_encoder"):
        tokenizer = clip_tokenizer()
        every = all_tokens()
        shifts = token_shifts(model, network, every, batch_done=batch_done)
        usual = float(shifts.median())
        names = [tokenizer.id_to_token(int(n)) or "" for n in every]
        order = [n for n in shifts.argsort(descending=True).tolist() if _is_word(names[n])]
        tokens = [_shown(names[n]) for n in order[:TOKENS]]
        moved = [float(shifts[n]) for n in order[:TOKENS]]
        endings = torch.tensor([n for n in order if _is_ending(names[n])], dtype=torch.int64)
        starts = [n for n in order if not names[n].endswith(END)][:STARTS] if len(endings) else []
        for start in starts:
            best = (
                token_shifts(model, network, endings, [start])
                .topk(min(ENDINGS, len(endings)))
                .indices
            )
            joined += [names[start] + names[int(n)].removesuffix(END) for n in endings[best]]
    whole = [token for token in tokens if not token.endswith("-")]
    words = list(dict.fromkeys([*tags, *whole[: TOKENS // 2], *joined]))
    effects = _prediction_moves(model, schedule, network, words, rows, batch_done)
    middle = median(effects) if effects else 1.0
    return Answers(
        tokens, moved, usual, words, [effect / middle if middle > 0 else 0.0 for effect in effects]
    )


def _is_word(token: str) -> bool:
    text = token.removesuffix(END)
    return text.isascii() and text.isalpha() and len(text) >= (2 if token.endswith(END) else 1)


def _is_ending(token: str) -> bool:
    text = token.removesuffix(END)
    return token.endswith(END) and text.isascii() and text.isalpha() and len(text) <= LETTERS


def _shown(token: str) -> str:
    return token.removesuffix(END) if token.endswith(END) else f"{token}-"


def _prediction_moves(
    model: DiffusionModel,
    schedule: NoiseSchedule,
    network: AdapterNetwork,
    words: Sequence[str],
    rows: Sequence[Row],
    word_done: Callable[[], object],
) -> list[float]:
    effects = []
    for word in words:
        told = [Row(row.latents, word, row.number, row.sizes) for row in rows]
        probe = Probe(model, schedule, told, SEED, TIMESTEPS)
        with network.attached():
            effects.append(finite(probe.predict().moved(probe.base).mean()))
        word_done()
    return effects
