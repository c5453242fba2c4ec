"""Settings of textual inversion: words of one's own, and the vectors that are trained for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import Texts, embedding_names

RANDOM = "random"


class EmbeddingSettings(Section):
    """Words of your own, whose vectors are trained (`train.kind`)."""

    names: Annotated[list[str], BeforeValidator(embedding_names)] = setting(
        [],
        "the words, as captions and prompts have them; each gets vectors of its own",
        why="the trigger (captions.trigger) of each folder",
        kind="list of texts",
    )
    vectors: int = setting(
        4,
        "vectors of each word: as many of a prompt's 75 tokens it takes",
        why="enough for a character, and leaves room in prompts; 1 for something simple",
        unit="vectors",
        ge=1,
        le=75,
    )
    init: Texts = setting(
        [RANDOM],
        'what each starts from: words such as "creature", repeated where there are more vectors; '
        'or "random", drawn as the vocabulary is spread; one for all, or one for each name',
        why="random fits anything; words that say what it is are a better start",
        kind="text or list of texts",
    )
    norm: Literal["vocabulary", "free"] = setting(
        "vocabulary",
        "length of the vectors after each step: the mean of the vocabulary's, or as it comes",
        why="longer ones drown the rest of a prompt; pivotal trainers keep it too",
    )

    negative: bool = setting(
        False,
        "the word is what is to be avoided, for negative prompts: it is learned from pairs of "
        "pictures, folders bad and good in data.path, with the same names in both",
        why="most words are for what is to be drawn",
    )
    separate: bool = setting(
        False,
        "write each word of a file that holds more into a file of its own, too: "
        "embeddings/NAME.safetensors, beside the result",
        why="LoRA files carry their words; ComfyUI and diffusers do not read them there",
    )

    def init_of(self, name: str) -> str:
        """What ``name``, one of :attr:`names`, starts from."""
        if len(self.init) > 1:
            return self.init[self.names.index(name)]
        return self.init[0] if self.init else RANDOM
