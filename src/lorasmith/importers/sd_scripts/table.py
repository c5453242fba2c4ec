"""The table of sd-scripts' arguments, its page, and what is near a name that is not in it.

Names, types and defaults are those of ``train_network.py`` and ``sdxl_train_network.py`` of
kohya-ss/sd-scripts (``library/train_util.py``, ``train_network.py``, ``custom_train_functions.py``,
``config_util.py``, ``sai_model_spec.py``, ``deepspeed_utils.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lorasmith.core.text import did_you_mean
from lorasmith.importers.sd_scripts.argument import Argument
from lorasmith.importers.sd_scripts.data import DATA
from lorasmith.importers.sd_scripts.loss import LOSS
from lorasmith.importers.sd_scripts.network import NETWORK, NETWORK_ARGUMENTS
from lorasmith.importers.sd_scripts.optimizer import OPTIMIZER
from lorasmith.importers.sd_scripts.run import RUNNING

ARGUMENTS: dict[str, Argument] = {
    row.name: row for row in (*DATA, *OPTIMIZER, *NETWORK, *LOSS, *RUNNING)
}
"""By name, in the order in which their rules are followed."""

WINDOWS_OWN = frozenset({"epoch"})
"""What kohya_ss writes into its files for itself; on a command line something else is meant."""

# Of scripts for other models, and names that other trainers have for these.
_MEANT = {
    "dim": "network_dim",
    "rank": "network_dim",
    "alpha": "network_alpha",
    "batch_size": "train_batch_size",
    "epoch": "max_train_epochs",
    "epochs": "max_train_epochs",
    "max_epochs": "max_train_epochs",
    "num_epochs": "max_train_epochs",
    "lr": "learning_rate",
    "te_lr": "text_encoder_lr",
    "warmup_ratio": "lr_warmup_steps",
    "conv_dim": "network_args",
    "conv_alpha": "network_args",
    "max_resolution": "resolution",
    "lr_restart_cycles": "lr_scheduler_num_cycles",
    "lr_warmup": "lr_warmup_steps",
    "optimizer": "optimizer_type",
    "weight_decay": "optimizer_args",
    "max_steps": "max_train_steps",
    "train_resolution": "resolution",
    "net_dim": "network_dim",
    "network_rank": "network_dim",
    "lr_scheduler_cycles": "lr_scheduler_num_cycles",
    "model": "pretrained_model_name_or_path",
    "save_every_epochs": "save_every_n_epochs",
}

_OTHER_MODELS = (
    *("blocks_to_swap", "clip_l", "clip_g", "t5xxl", "ae", "discrete_flow_shift"),
    *("guidance_scale", "model_prediction_type", "timestep_sampling", "weighting_scheme"),
    *("logit_mean", "logit_std", "mode_scale", "sigmoid_scale", "apply_t5_attn_mask"),
    *("text_encoder_batch_size", "t5xxl_max_token_length", "split_mode", "attn_mode"),
)


def unabbreviated(name: str) -> str:
    """The one argument that begins with ``name``: Python's argument parsers take beginnings."""
    if name in ARGUMENTS or not name:
        return name
    whole = [each for each in ARGUMENTS if each.startswith(name)]
    return whole[0] if len(whole) == 1 and whole[0] not in WINDOWS_OWN else name


def near(name: str) -> str:
    """What someone who wrote an unknown ``name`` should do, as an imperative sentence."""
    if name in _OTHER_MODELS:
        return "it is of Flux, SD3 and their kin, which are not trained here; leave it out"
    if name in _MEANT:
        return f"did you mean --{_MEANT[name]}?"
    otherwise = "leave it out; `lorasmith convert-config --arguments` lists what is known"
    written = name.lower().replace("-", "_")
    return did_you_mean(written, ARGUMENTS.keys(), otherwise, most=2, cutoff=0.7, form="--{}")


def arguments_page() -> str:
    """What becomes of every argument, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# sd-scripts' arguments"
    yield ""
    yield "<!-- Made by `lorasmith convert-config --arguments`. -->"
    yield ""
    yield "What becomes of each argument of `train_network.py` and `sdxl_train_network.py`; see"
    yield "[coming-from-sd-scripts.md](coming-from-sd-scripts.md). Where a default differs from"
    yield "ours, sd-scripts' own is what a converted run gets."
    for title, fates in (
        ("Become settings", ("setting", "read")),
        ("Done in any case", ("always",)),
        ("Dropped, with the reason printed", ("dropped",)),
        ("Refused", ("refused",)),
    ):
        yield ""
        yield f"## {title}"
        yield ""
        yield "| argument | default there | here |"
        yield "|---|---|---|"
        yield from (_row(row) for row in ARGUMENTS.values() if row.fate in fates)
    yield ""
    yield "## `--network_args`"
    yield ""
    yield "| argument | of | here |"
    yield "|---|---|---|"
    for each in NETWORK_ARGUMENTS.values():
        refusal = each.fate in ("refused", "dropped")
        here = f"{each.fate}: {each.here}" if refusal else f"`{each.here}`"
        yield f"| `{each.name}` | {_codes(each.modules)} | {here} |"


def _row(row: Argument) -> str:
    if row.kind == "flag":
        default = "off"
    else:
        default = "" if row.default in (None, "") else f"`{row.default}`"
    here = _codes(row.paths) if row.paths else ""
    reason = "; ".join(part for part in (row.why, row.hint) if part)
    return f"| `--{row.name}` | {default} | {here or reason or 'checked'} |"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
