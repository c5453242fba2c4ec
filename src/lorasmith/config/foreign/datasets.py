"""``--dataset_config``: sd-scripts' data sets and their subsets.

A subset takes what it does not say itself from its data set, from ``[general]`` and from the
command line, in this order. What stands for all subsets alike becomes a setting of the run; of
single folders only repeats, captions, kept tags and regularisation can differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from lorasmith.config.foreign.argument import Argument
from lorasmith.config.foreign.arguments import ARGUMENTS
from lorasmith.config.foreign.making import Making
from lorasmith.config.foreign.reading import read_value
from lorasmith.config.foreign.result import Given, Made
from lorasmith.config.foreign.tables import read_table, user_path
from lorasmith.errors import Problem, SettingsError

# What a subset may say, besides its own folder; [general] and data sets may too.
OF_SUBSETS = (
    *("color_aug", "face_crop_aug_range", "flip_aug", "random_crop", "shuffle_caption"),
    *("keep_tokens_separator", "secondary_separator", "caption_separator", "enable_wildcard"),
    *("token_warmup_min", "token_warmup_step", "caption_prefix", "caption_suffix"),
    *("resize_interpolation", "caption_dropout_every_n_epochs", "caption_dropout_rate"),
    *("caption_tag_dropout_rate", "caption_extension", "cache_info", "alpha_mask"),
)
OF_FOLDERS = ("num_repeats", "class_tokens", "keep_tokens")
OF_ONE_FOLDER = ("image_dir", "is_reg", "conditioning_data_dir")
OF_DATASETS = {
    **{name: name for name in ("bucket_no_upscale", "bucket_reso_steps", "enable_bucket")},
    **{name: name for name in ("max_bucket_reso", "min_bucket_reso", "resolution")},
    **{name: name for name in ("validation_seed", "validation_split")},
    "batch_size": "train_batch_size",
}
"""What a data set may say, and the argument that it is."""

REFUSED = {
    "metadata_file": "metadata files of fine-tuning are not read; put captions beside the pictures",
    "custom_attributes": "nothing here reads attributes of your own",
    "network_multiplier": "the network counts fully",
}

Layers = tuple[Mapping[str, Any], ...]


def datasets(m: Making, table: Mapping[str, Any] | None, where: str) -> None:
    """Take the data-set file into account, if there is one, or the ``table`` of the file ``where``
    that stands for it."""
    if table is not None:
        take_datasets(m, table, where)
    if not m.has("dataset_config"):
        return
    path = user_path(str(m.value("dataset_config")))
    try:
        table = read_table(path)
    except SettingsError as error:
        m.result.problems += error.problems
        return
    take_datasets(m, table, path.name)


def take_datasets(m: Making, table: Mapping[str, Any], where: str) -> None:
    """Take ``[general]`` and ``[[datasets]]`` of a file that messages call ``where``."""
    general = table.get("general", {})
    sets = table.get("datasets", [])
    if not isinstance(general, Mapping) or not _is_tables(sets):
        m.result.problems.append(
            Problem(where, "is not a file of data sets", "write [general] and [[datasets]] tables")
        )
        return
    for name in set(table) - {"general", "datasets"}:
        _unknown(m, where, name, ["general", "datasets"])
    chains: list[Layers] = []
    for each in sets:
        subsets = each.get("subsets", [])
        chains += [(subset, each, general) for subset in subsets if _is_tables([subset])]
        _check_names(m, where, each, [*_general_names(), "subsets"])
    _check_names(m, where, general, _general_names())
    for subset, *_ in chains:
        _check_names(m, where, subset, [*OF_SUBSETS, *OF_FOLDERS, *OF_ONE_FOLDER])
    if not chains:
        m.result.problems.append(Problem(where, "names no subset", "add [[datasets.subsets]]"))
        return
    for name in OF_SUBSETS:
        _shared(m, where, name, name, chains)
    for name, argument in OF_DATASETS.items():
        _shared(m, where, name, argument, [chain[1:] for chain in chains])
    _masks(m, where, chains)
    _folders(m, where, chains)


def _general_names() -> list[str]:
    return [*OF_SUBSETS, *OF_FOLDERS, *OF_DATASETS]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _check_names(m: Making, where: str, table: Mapping[str, Any], known: list[str]) -> None:
    for name in table:
        if name in REFUSED:
            m.result.problems.append(Problem(f"{where}: {name}", REFUSED[name], "leave it out"))
        elif name not in known:
            _unknown(m, where, name, known)


def _unknown(m: Making, where: str, name: str, known: list[str]) -> None:
    close = get_close_matches(name, known, n=2)
    todo = f"did you mean {' or '.join(close)}?" if close else "leave it out"
    m.result.problems.append(Problem(f"{where}: {name}", "is not known in this place", todo))


def _first(name: str, layers: Layers) -> Any:
    return next((layer[name] for layer in layers if name in layer), None)


def _shared(m: Making, where: str, name: str, argument: str, chains: list[Layers]) -> None:
    """A value that all subsets share becomes the argument's; else it is refused."""
    given = [_first(name, layers) for layers in chains]
    if all(value is None for value in given):
        return
    place, values = f"{where}: {name}", []
    for value in given:
        try:
            read = None if value is None else read_value(ARGUMENTS[argument], value)
        except ValueError as error:
            m.result.problems.append(Problem(place, str(error), "correct it"))
            return
        values.append(m.value(argument) if read is None else read)
    if any(value != values[0] for value in values[1:]):
        texts = " and ".join(dict.fromkeys(str(value) for value in values))
        m.result.problems.append(
            Problem(
                place,
                f"is {texts}: it cannot differ from folder to folder here",
                "make it the same everywhere, or train the folders one after the other",
            )
        )
        return
    m.give(argument, Given(values[0], place))


def _masks(m: Making, where: str, chains: list[Layers]) -> None:
    found = {
        str(_first("conditioning_data_dir", layers[:1]) or "")
        for layers in chains
        if not layers[0].get("is_reg")
    }
    if found == {""} or not found:
        return
    place = f"{where}: conditioning_data_dir"
    if len(found) > 1:
        m.result.problems.append(
            Problem(
                place,
                "there is one folder of masks here (loss.mask_folder)",
                "put the masks into folders of one folder, named like those of the pictures",
            )
        )
        return
    m.give("conditioning_data_dir", Given(found.pop(), place))


def _folders(m: Making, where: str, chains: list[Layers]) -> None:
    folders = []
    for layers in chains:
        folder, own = layers[0].get("image_dir"), {}
        if not folder:
            m.result.problems.append(
                Problem(f"{where}: image_dir", "is missing in a subset", "name its folder")
            )
            continue
        try:
            own = {
                "repeats": _number(m, "num_repeats", layers),
                "reg": read_value(
                    Argument("is_reg", "flag", False, "setting"), layers[0].get("is_reg")
                ),
                "caption": _first("class_tokens", layers),
                "keep_tokens": _number(m, "keep_tokens", layers),
            }
        except ValueError as error:
            m.result.problems.append(Problem(f"{where}: {folder}", str(error), "correct it"))
            continue
        folders.append({"path": str(folder), **{k: v for k, v in own.items() if v}})
    if not folders:
        return
    kept = {folder.get("keep_tokens", 0) for folder in folders}
    if len(kept) == 1:
        for folder in folders:
            folder.pop("keep_tokens", None)
        if "keep_tokens" in m.given or kept != {0}:
            m.give("keep_tokens", Given(kept.pop(), f"{where}: keep_tokens"))
    if m.has("dataset_config"):
        m.put("data.folders", folders, "dataset_config")
    else:
        m.result.settings["data.folders"] = Made(folders, f"{where}: image_dir", where)


def _number(m: Making, name: str, layers: Layers) -> int | None:
    value = _first(name, layers)
    argument = "dataset_repeats" if name == "num_repeats" else name
    if value is None:
        return int(m.value(argument))
    read = read_value(ARGUMENTS[argument], value)
    return None if read is None else int(read)
