"""Settings of the adapter: its type and size, and the parts of the model that it changes."""

from __future__ import annotations

from pydantic import field_validator

from lorasmith.config.adapter_types import ADAPTERS, AdapterType
from lorasmith.config.fields import Section, setting
from lorasmith.config.values import (
    BlockAlphas,
    BlockRanks,
    BlockWeights,
    OwnTargets,
    Patterns,
    UserPath,
)
from lorasmith.formats.block_weights import BASE, BLOCKS, UNET_BLOCKS, learning_weights


class AdapterSettings(Section):
    """The LoRA itself: its size, and the parts of the model that it changes."""

    type: AdapterType = setting(
        "lora", "kind of adapter", why="read by every program; enough for most subjects"
    )
    rank: int = setting(
        16,
        "rank of the matrices (network dim): how much the LoRA can hold",
        why="enough for most characters; 32 to 64 for intricate ones and styles",
        ge=1,
        le=1024,
    )
    alpha: float | None = setting(
        None,
        "the LoRA is scaled by alpha / rank; 0 and none mean the rank itself",
        why="a factor of 1, so that lr means what it says",
        kind="number",
        ge=0,
        le=4096,
    )
    conv_rank: int | None = setting(
        None,
        "rank for the 3x3 convolutions; 0 leaves them alone, none is rank for the types that "
        "adapt convolutions and 0 for the others",
        why="as the type is usually trained",
        kind="whole number",
        ge=0,
        le=1024,
    )
    conv_alpha: float | None = setting(
        None,
        "alpha for the convolutions; 0 and none mean conv_rank, or alpha if conv_rank is none too",
        why="a factor of 1",
        kind="number",
        ge=0,
        le=4096,
    )
    rs_lora: bool = setting(
        False,
        "scale by alpha / sqrt(rank) instead of alpha / rank (rsLoRA)",
        why="matters for ranks above 64 only",
    )
    weight_decompose: bool = setting(
        False,
        "learn the lengths of the weights apart from their directions (DoRA)",
        why="a step takes longer; the type dora always does",
    )
    decompose_on_output: bool = setting(
        False,
        "DoRA's lengths are those of each output's weights, as peft and LyCORIS have them, not of "
        "each input's",
        why="web UIs apply the lengths of inputs exactly, those of outputs not",
    )
    tucker: bool = setting(
        False,
        "convolutions with the kernel in a core of rank x rank (Tucker form, formerly CP)",
        why="the plain form learns more at the same rank",
    )
    factor: int = setting(
        -1,
        "lokr: wished size of the small factor, such as 4, 8 or 16; the larger, the smaller the "
        "file; -1 is about the square root of each side",
        why="the smallest file",
        ge=-1,
        le=1024,
    )
    full_matrix: bool = setting(
        False, "lokr: the large factor is a full matrix at any rank", why="rank decides"
    )
    decompose_both: bool = setting(
        False, "lokr: the small factor is low-rank too", why="it is small as it is"
    )
    train_on_input: bool | None = setting(
        None,
        "ia3: scale what goes into a layer (true) or what comes out (false); none is by layer",
        why="as LyCORIS does: inputs of the feed-forward's second layer, outputs elsewhere",
    )
    unit: int = setting(
        1,
        "dylora: how many ranks are trained together",
        why="the file can be cut to any rank",
        ge=1,
        le=1024,
    )
    min_rank: int | None = setting(
        None,
        "tlora: how many ranks learn at the highest noise level; all do where there is no noise; "
        "none is half of them",
        why="what its authors take for SDXL: 32 of 64",
        kind="whole number",
        ge=1,
        le=1024,
    )
    rank_power: float = setting(
        1.0,
        "tlora: the ranks go with this power of (T - t) / T at timestep t of T: 1 is a line, 2 "
        "leaves more to low noise",
        why="the authors' choice",
        ge=0.1,
        le=10,
    )
    orthogonal: bool = setting(
        True,
        "tlora: start from orthogonal vectors, whose product is taken off again; the file has "
        "twice the rank",
        why="keeps each rank to its own: at a random start a part of them would do",
    )
    constraint: float = setting(
        0.0,
        "oft, boft: how far weights may be rotated; 0 is as far as they like",
        why="the learning rate is limit enough",
        ge=0,
        le=1000,
    )
    rescaled: bool = setting(
        False, "oft, boft: learn a factor for each output too", why="rotations alone"
    )
    unet: bool = setting(
        True, "train the UNet: what pictures look like", why="most is learned here"
    )
    text_encoder: bool = setting(
        True, "train the text encoder: what words mean", why="binds the trigger word to the subject"
    )
    targets: OwnTargets = setting(
        None,
        "layers that get an adapter: attn, attn-mlp, full, unet-only, te-only, or a list of these "
        "and of patterns",
        why="attn-mlp, as kohya's; ia3: its own keys, values and feed-forward",
        kind="list of texts",
    )
    include: Patterns = setting(
        [], "patterns of further layers, such as conv_in or time_embedding.*", why="none"
    )
    exclude: Patterns = setting(
        [], "patterns of layers that get none, such as ff.net.* or re:_to_(q|k)$", why="none"
    )
    blocks: BlockWeights = setting(
        None,
        "weights of the UNet's blocks, which multiply their learning rate; a block of weight 0 is "
        "left out: a preset (OUTALL, INS, MIDD, …), 12, 17, 20, 25 or 26 values, or by name "
        "(rest=0 OUT03-OUT06=1); see blocks.md",
        why="every block alike",
        kind="text, list or table",
    )
    block_lr_zero_threshold: float = setting(
        0.0,
        "block weights at or below this count as 0",
        why="weights are taken as they are",
        ge=0,
        le=1000,
    )
    block_ranks: BlockRanks = setting(
        None,
        "rank by block, in place of rank: 25 values (IN00-IN11, M00, OUT00-OUT11) or by name; 0 "
        "leaves a block out",
        why="rank everywhere",
        kind="text, list or table",
    )
    block_alphas: BlockAlphas = setting(
        None, "alpha by block, likewise", why="alpha everywhere", kind="text, list or table"
    )
    conv_block_ranks: BlockRanks = setting(
        None,
        "rank of the 3x3 convolutions by block, likewise",
        why="conv_rank everywhere",
        kind="text, list or table",
    )
    conv_block_alphas: BlockAlphas = setting(
        None,
        "alpha of the 3x3 convolutions by block, likewise",
        why="conv_alpha everywhere",
        kind="text, list or table",
    )
    dropout: float = setting(
        0.0,
        "share of the numbers between the factors (of other types than LoRA: of the output) that "
        "are zeroed in training",
        why="off",
        ge=0,
        lt=1,
    )
    rank_dropout: float = setting(
        0.0, "share of the ranks that are left out of a step", why="off", ge=0, lt=1
    )
    module_dropout: float = setting(
        0.0, "share of the layers whose LoRA is left out of a step", why="off", ge=0, lt=1
    )
    scale_weight_norms: float | None = setting(
        None,
        "largest norm of a layer's change; larger ones are scaled down after each step; "
        "1 is common, 0 and none are off",
        why="needed only against burning, or for LoRAs that are to be combined",
        kind="number",
        ge=0,
        le=1000,
    )
    init_from: UserPath | None = setting(
        None, "LoRA file to go on from", why="training starts from no change at all"
    )

    @field_validator("alpha", "conv_alpha", "scale_weight_norms")
    @classmethod
    def _zero_is_none(cls, value: float | None) -> float | None:
        return value or None

    @property
    def block_weights(self) -> dict[str, float]:
        """Weight of each block, for a model of SD1's size, as
        :mod:`lorasmith.formats.block_weights` has them."""
        if self.blocks is None:
            return dict.fromkeys(BLOCKS, 1.0)
        return learning_weights(self.blocks, side=None, threshold=self.block_lr_zero_threshold)

    @property
    def names_layers(self) -> bool:
        """Whether anything here may not fit the model that is trained."""
        named = (self.targets, self.include, self.exclude, self.blocks, self.block_ranks)
        return any([*named, self.conv_block_ranks, self.init_from])

    @property
    def parts(self) -> dict[str, bool]:
        """Whether ``unet`` and ``text_encoder`` are to be trained, after all of these settings."""
        weights, targets = self.block_weights, self.targets or []
        return {
            "unet": self.unet
            and ("te-only" not in targets or "unet-only" in targets)
            and any(weights[block] for block in UNET_BLOCKS),
            "text_encoder": self.text_encoder
            and ("unet-only" not in targets or "te-only" in targets)
            and weights[BASE] > 0,
        }

    @property
    def effective_alpha(self) -> float:
        return float(self.rank) if self.alpha is None else self.alpha

    @property
    def effective_conv_rank(self) -> int:
        """Rank of the 3x3 convolutions' adapters; 0 where they have none."""
        if self.conv_rank is not None:
            return self.conv_rank
        return self.rank if ADAPTERS[self.type].conv else 0

    @property
    def effective_conv_alpha(self) -> float:
        if self.conv_alpha is not None:
            return self.conv_alpha
        return self.effective_alpha if self.conv_rank is None else float(self.conv_rank)
