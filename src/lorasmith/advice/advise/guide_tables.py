"""The guides' tables, row by row, and what is made of each row.

Their numbers are what rules reckon with: :data:`CATEGORIES` and :data:`STARTING` are read by
:mod:`lorasmith.advice.advise.rules`. A row that no rule takes says why not.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorasmith.advice.advise.sources import DUMMIES, HDG, PONY, TUTORIAL, Source, science


@dataclass(frozen=True, slots=True)
class Category:
    """A row of "Character difficulty".

    Args:
        low, high: ranks.
        types: LoRA-LierLa ("lora") and what else it is for.
    """

    letter: str
    description: str
    low: int
    high: int
    types: tuple[str, ...]

    @property
    def ranks(self) -> str:
        return f"{self.low}-{self.high}" if self.low < self.high else str(self.low)


CATEGORIES: dict[str, Category] = {
    row.letter: row
    for row in (
        Category("A", "ordinary people and clothes", 4, 8, ("lora", "lokr")),
        Category("B", "unusual faces, hair, colours or clothes", 4, 16, ("lora", "lokr", "loha")),
        Category(
            "C", "very elaborate details, wings, armour, tails", 8, 32, ("lora", "lokr", "loha")
        ),
        Category("D", "humanlike animals, real people", 32, 64, ("lora", "loha")),
        Category("E", "unusual, as with chibi proportions, two arms and legs", 64, 64, ("lora",)),
        Category("F", "animals, dragons, humanlike robots, ornate armour", 64, 128, ("lora",)),
        Category("G", "mechs, aliens, demons, several limbs", 128, 128, ("lora",)),
        Category("H", "monsters, insects, machines without a human shape", 128, 192, ("lora",)),
        Category("I", "eldritch abominations", 192, 256, ("lora",)),
    )
}
DIFFICULTY = science("Character difficulty")


@dataclass(frozen=True, slots=True)
class Start:
    """A row of "Starting settings"; ``None`` where it says no number.

    Args:
        images: least and most; no most where it has none.
        ranks: least and most.
        steps: at a batch of 1.
        resolution: least and most, px.
    """

    images: tuple[int, int | None]
    ranks: tuple[int, int]
    alpha: str
    unet_lr: float | None
    text_encoder_lr: float | None
    regularization: str
    steps: int | None
    resolution: tuple[int, int]


STARTING: dict[str, Start] = {
    "Character (good inputs)": Start(
        (35, 100), (32, 96), "1-rank", 1e-4, 5e-5, "No", 1000, (512, 768)
    ),
    "Character (bad inputs)": Start(
        (15, 30), (32, 64), "1-rank", 1e-4, 4.5e-5, "Yes", 1600, (512, 768)
    ),
    "Style": Start(
        (100, None), (96, 192), "1 to (rank/2) torank", 1e-4, 4e-5, "No", 3000, (576, 768)
    ),
    "Concept": Start(
        (50, 2000), (8, 128), "1 to (rank/2) to rank", 1e-4, 4.5e-5, "TBD", None, (512, 768)
    ),
    "⭐My current settings (characters)": Start(
        (50, 100), (64, 64), "64", None, None, "Either", 1000, (512, 576)
    ),
}
START = science("Starting settings")


@dataclass(frozen=True, slots=True)
class Row:
    """Any other row.

    Args:
        name: as the guide has it.
        says: the value that a rule could take, as the guide has it.
        here: what is made of it.
    """

    name: str
    says: str
    here: str


@dataclass(frozen=True, slots=True)
class GuideTable:
    """
    Args:
        column: what of a row is in :attr:`Row.says`.
    """

    title: str
    source: Source
    column: str
    rows: tuple[Row, ...]


_TRIGGERS = "captions.keep_tokens is the number of the trigger's tags"
_PARTS = "its lr is looked for on the pictures; the guide's 0.0001 where the run is too short"
_RATIO = "optimizer.text_encoder_lr by kind of subject, as a share of the UNet's"
_ADAPTIVE = "not taken: the rate is looked for, so that AdamW needs no guess either"
_BLOCKS = "not taken: only grids of a trained LoRA tell which blocks to leave out"
_FIND = "takes what lr is looked for"

TABLES: tuple[GuideTable, ...] = (
    GuideTable(
        "Easy settings", science("Starting settings"), "Value",
        (
            Row("Optimizer", "DAdaptAdam", _ADAPTIVE),
            Row("Learn rate (Unet)", "1.0", "of DAdaptAdam"),
            Row("Learn rate (TE)", "1.0", "of DAdaptAdam"),
            Row(
                "Total steps", "Around 1000, adjust epochs to fit your source images",
                "the length rule gives it: 50 showings of each of 20 pictures",
            ),
            Row("scheduler", "Constant", "of DAdaptAdam; cosine for AdamW"),
            Row("Alpha", "1", "of DAdaptAdam; half of the rank for AdamW"),
            Row(
                "Net dim (Rank)", "64 (32 will be fine for characters and concepts too)",
                "adapter.rank by difficulty",
            ),
            Row("Resolution", "512 (576 is also fine)", "576 for styles and faithful use of SD1"),
            Row("Bucket size", "min:320, max:768", "not taken: wide pictures keep their shape"),
            Row("min_snr_gamma", "5", "loss.min_snr_gamma"),
            Row("Max token length", "225", "model.max_tokens by the longest caption"),
            Row("Optional", "--flip-aug", "augment.flip where nothing says left from right"),
            Row(
                "optimizer_args",
                '--optimizer_args "decouple=True" "weight_decay=0.01" "betas=0.9,0.99"',
                "of DAdaptAdam",
            ),
        ),
    ),
    GuideTable(
        "Learning rates", science("Learning rates"), "Values",
        (
            Row("--learning_rate", "0.005-0.0001", _PARTS),
            Row("--unet_lr", "0.0001-0.005", _PARTS),
            Row("--text_encoder_lr", "0.00001-0.00005", _RATIO),
        ),
    ),
    GuideTable(
        "Optimizers", science("Optimizers"), "VRAM",
        (
            Row("AdamW8bit", "LOW", "where the memory plan needs it"),
            Row("AdamW", "MID", "optimizer.name"),
            Row("DAdaptAdam", "HIGH!", _ADAPTIVE),
            Row("SGDNesterov8bit", "LOW", "not taken: learns next to nothing"),
            Row("SGDNesterov", "MID", "not taken: learns next to nothing"),
            Row("AdaFactor", "LOW!", "not taken: AdamW8bit saves as much where it matters"),
            Row("Lion", "MID-HIGH", "not taken: strange results, says the guide"),
            Row("Lion8bit", "TBD", "not taken: the guide has not tried it"),
            Row("Prodigy", "HIGH!", _ADAPTIVE),
        ),
    ),
    GuideTable(
        "Scheduler", science("Scheduler"), "Effect",
        (
            Row("constant", "Learning rates do not change.", "not taken: of adaptive optimizers"),
            Row(
                "constant_with_warmup",
                "Like constant, but starts at zero and increases linearly during warmup_steps "
                "until reaching the given values.",
                "not taken: of adaptive optimizers",
            ),
            Row("linear", "Drops constantly until it's zero at the end.", "not taken: cosine"),
            Row(
                "cosine", "Learning rates go up and down following a cosine wave form.",
                "schedule.name: one way down",
            ),
            Row(
                "cosine_with_restarts",
                "Like cosine, but starts from full LR at given intervals.",
                "taken as cosine: with sd-scripts' one cycle nothing restarts",
            ),
            Row("polynomial", "Like linear, but with a fancier curve.", "not taken: cosine"),
        ),
    ),
    GuideTable(
        "LyCORIS", science("LyCORIS"), "Args",
        (
            Row(
                "Conventional LoRA", "locon",
                "adapter.type of faithful styles and concepts, on SD1 and SD2",
            ),
            Row(
                "LoRA with Hadamard Product Representation", "loha",
                "not taken: slow, and much memory",
            ),
            Row(
                "LoRA with Kronecker Product", "lokr",
                "adapter.type of small files, for characters of A to C",
            ),
            Row("(IA)^3", "ia3", "not taken: of use with its own base alone"),
            Row("Dynamic Search-free LoRA", "dylora", "not taken: very slow"),
        ),
    ),
    GuideTable(
        "The Unet and its blocks", science("Weighted training"), "Effect",
        (
            Row("IN", "Composition, silhouette, body planning, posture", _BLOCKS),
            Row("MID", "Middle ground, more effects to determine", _BLOCKS),
            Row("OUT", "Color, shadows, texture, details", _BLOCKS),
        ),
    ),
    GuideTable(
        "LoRA blocks", science("Weighted training"), "Blocks",
        (
            Row("IN", "IN01, IN02, IN04, IN05, IN07, IN08", _BLOCKS),
            Row("MID", "M00", _BLOCKS),
            Row(
                "OUT", "OUT03, OUT04, OUT05, OUT06, OUT07, OUT08, OUT09, OUT10, OUT11", _BLOCKS
            ),
        ),
    ),
    GuideTable(
        "Learn dampening", science("Learn dampening"), "Learn dampening",
        (
            Row("resolution", "↑↑↑ every +64", f"damping.shape_levels; {_FIND}"),
            Row("noise_offset", "↑↑↑ every +0.1", f"damping.noise_offset_factor; {_FIND}"),
            Row("network_dim", "↑ every -16", f"damping.first_step; {_FIND}"),
            Row("alpha", "↑↑ every -16", f"damping.alpha_factor; {_FIND}"),
            Row("min_snr_gamma", "↑ every +1", f"damping.min_snr_factor; {_FIND}"),
            Row(
                "scale_weight_norms", "To determine conclusively",
                "1 for flexible use and for LoRAs that are combined",
            ),
        ),
    ),
    GuideTable(
        "Augmentations", science("Augmentations"), "Disables cache latents?",
        (
            Row("flip_aug", "NO", "augment.flip where nothing says left from right"),
            Row("color_aug", "YES", "not taken: colours are part of most subjects"),
            Row("crop_aug", "YES", "not taken: captions fit the whole picture"),
            Row("face_crop_aug_range", "YES", "not taken: needs names that tell of faces"),
        ),
    ),
    GuideTable(
        "LoRA Training Tutorial", TUTORIAL, "value",
        (
            Row("Resolution", "512x512 or 768x768", "what the base was made for"),
            Row("Images", "as few as 6", "below that, T-LoRA"),
            Row("Steps for a concept", "500 - 750", "the length rule gives as many for six"),
            Row("1 character, 1 outfit", "6 x 150 = 900", "the same"),
            Row("2 outfits", "~1500", "the length rule adds folders up"),
            Row("Train Batch Size", "2", "where the run stays long enough and it fits"),
            Row("Epoch", "1", "epochs, not repeats: there are snapshots to choose from"),
            Row(
                "Mixed/Save Precision", "bf16 for RTX 30 or 40; otherwise fp16",
                "train.precision = auto does the same; files are fp16",
            ),
            Row(
                "Learning Rate / Scheduler / Warmup / Optimizer",
                "0.00025 / cosine / 10% / AdamW8bit",
                "cosine; the rate is looked for",
            ),
            Row("Network Rank", "64", "adapter.rank by difficulty"),
            Row("Network Alpha", "16", "half of the rank, as others measured"),
            Row("Keep n tokens", "1 for 1 trigger word", _TRIGGERS),
            Row("Clip Skip", "1 for realistic; 2 for anime", "model.clip_skip by the base's name"),
            Row("Shuffle caption", "Enable", "captions.shuffle for tags, not for sentences"),
        ),
    ),
    GuideTable(
        "hdg LoRA Training Guide", HDG, "value",
        (
            Row("Images", "50-150", "told where there are few"),
            Row("Resolution", "512", "what the base was made for"),
            Row("Alpha", "half that of dim", "adapter.alpha"),
        ),
    ),
    GuideTable(
        "Kohya_ss step by step (Pony)", PONY, "value",
        (
            Row("Repeats", "7", "only to balance folders"),
            Row("Train batch size", "4 (2 or 8)", "where the run stays long enough and it fits"),
            Row("Epoch", "15", "by the length rule"),
            Row("Save every N epochs", "1", "about ten snapshots in a run"),
            Row("Learning rate, Unet learning rate", "0,000025", _PARTS),
            Row("Unet learning rate, higher or lower", "0,0001 or 0,00001", _PARTS),
            Row("Text Encoder learning rate", "0,000025", "the family's, for SDXL"),
            Row("Text Encoder learning rate, higher or lower", "0,00005 or 0,00001", _RATIO),
            Row("LR Scheduler", "constant", "cosine, as it says itself of overtrained models"),
            Row("Optimizer", "AdamW", "optimizer.name"),
            Row("LR warmup", "5%", "not taken: a LoRA starts from no change"),
            Row("Resolution", "512,512 / 768,768", "768 for SDXL where 1024 does not fit"),
            Row("Enable buckets", "on", "buckets.enabled"),
            Row(
                "Network Rank", "16 (32 for higher fidelity, 8 if overfitting)",
                "half of SD1's rank on SDXL",
            ),
            Row("Network Alpha", "8 (Rank / 2)", "adapter.alpha"),
            Row(
                "Clip skip", "2 (1 for realistic / 2 for anime-like)",
                "not of SDXL, whose layer is fixed",
            ),
            Row("Shuffle caption", "on", "captions.shuffle for tags, not for sentences"),
            Row("Keep n tokens", "4 (0 to teach multiple keywords)", _TRIGGERS),
            Row(
                "Enable horizontal flip augmentation", "on",
                "augment.flip where nothing says left from right",
            ),
            Row("Mixed precision", "no (without an NVIDIA GPU)", "train.precision = auto"),
        ),
    ),
    GuideTable(
        "Lora for dummies", DUMMIES, "value",
        (
            Row("Scheduler", "Cosine Annealing or Cosine with Restarts", "schedule.name = cosine"),
            Row("Images", "only 20 work perfectly, 1000+ may fail", "captions decide"),
        ),
    ),
)  # fmt: skip


def guides_page() -> str:
    """All tables but those of numbers, as docs/advise.md has them."""
    lines = ["| table | row | what is made of it |", "| --- | --- | --- |"]
    for category in CATEGORIES.values():
        made = f"adapter.rank {category.ranks}; of it half on SDXL"
        lines.append(f"| Character difficulty | {category.letter} | {made} |")
    for name, start in STARTING.items():
        made = "not taken: the rate is looked for"
        if start.text_encoder_lr is not None:
            made = f"optimizer.text_encoder_lr {start.text_encoder_lr:g} beside {start.unet_lr:g}"
            made += f"; {start.steps} steps" if start.steps else ""
        lines.append(f"| Starting settings | {name} | {made} |")
    for table in TABLES:
        lines += [f"| {table.title} | {row.name} | {row.here} |" for row in table.rows]
    return "\n".join(lines)
