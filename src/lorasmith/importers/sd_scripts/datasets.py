"""``--dataset_config``: sd-scripts' data sets and their subsets.

A subset takes what it does not say itself from its data set, from ``[general]`` and from the
command line, in this order. The first training subset's values become settings of the run; a
folder whose values are others gets them as settings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorasmith.config.fields import NONE
from lorasmith.config.schema import FOLDER_TABLES, all_settings
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.text import did_you_mean
from lorasmith.importers.conversion import Conversion, Derived, Given, read_table
from lorasmith.importers.named_files import named_path
from lorasmith.importers.sd_scripts import data
from lorasmith.importers.sd_scripts.argument import ConversionBuilder
from lorasmith.importers.sd_scripts.table import ARGUMENTS
from lorasmith.importers.sd_scripts.values import read_value

# What a subset may say for itself, besides its own folder; [general] and data sets may too.
OF_SUBSETS = (
    *("color_aug", "face_crop_aug_range", "flip_aug", "random_crop", "shuffle_caption"),
    *("keep_tokens", "keep_tokens_separator", "secondary_separator", "caption_separator"),
    *("enable_wildcard", "token_warmup_min", "token_warmup_step", "caption_prefix"),
    *("caption_suffix", "caption_dropout_every_n_epochs", "caption_dropout_rate"),
    *("caption_tag_dropout_rate", "caption_extension"),
)
OF_FOLDERS = ("num_repeats", "class_tokens")
OF_ONE_FOLDER = ("image_dir", "is_reg", "conditioning_data_dir")
OF_DATASETS = {
    **{name: name for name in ("bucket_no_upscale", "bucket_reso_steps", "enable_bucket")},
    **{name: name for name in ("max_bucket_reso", "min_bucket_reso", "resolution")},
    "batch_size": "train_batch_size",
}
"""What a data set may say for itself, and the argument that it is."""

# What subsets or data sets may say, but a run here has one of.
OF_RUNS_IN_SUBSETS = ("resize_interpolation", "alpha_mask")
OF_RUNS_IN_DATASETS = ("validation_split", "validation_seed")

REFUSED = {
    "metadata_file": (
        "metadata files of fine-tuning are not read",
        "put the captions beside the pictures as .txt files, and leave it out",
    ),
    "custom_attributes": (
        "nothing here reads attributes of your own",
        "leave it out; for diff_output_preservation set preservation.enabled, without its folder",
    ),
    "network_multiplier": ("the network counts fully here", "leave it out, or write 1.0"),
}
_ASKS_FOR_NOTHING: dict[str, tuple[Any, ...]] = {
    "metadata_file": ("",), "custom_attributes": ({},), "network_multiplier": (1,),
}  # fmt: skip

Layers = tuple[Mapping[str, Any], ...]


def datasets(m: ConversionBuilder, table: Mapping[str, Any] | None, where: str) -> None:
    """Take the data-set file into account, if there is one, or the ``table`` of the file ``where``
    that stands for it."""
    if table is not None:
        take_datasets(m, table, where)
    if not m.has("dataset_config"):
        return
    try:
        path = named_path(str(m.value("dataset_config")))
        table = read_table(path)
    except SettingsError as error:
        m.result.problems += error.problems
        return
    take_datasets(m, table, path.name)


def take_datasets(m: ConversionBuilder, table: Mapping[str, Any], where: str) -> None:
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
        known = [*OF_SUBSETS, *OF_RUNS_IN_SUBSETS, "cache_info", *OF_FOLDERS, *OF_ONE_FOLDER]
        _check_names(m, where, subset, known)
    if not chains:
        m.result.problems.append(Problem(where, "names no subset", "add [[datasets.subsets]]"))
        return
    for name in OF_RUNS_IN_SUBSETS:
        _shared(m, where, name, chains)
    for name in OF_RUNS_IN_DATASETS:
        if name == "validation_seed" and not m.value("validation_split"):
            continue  # Nothing is drawn with it.
        _shared(m, where, name, [chain[1:] for chain in chains])
    if any(_first("cache_info", layers) for layers in chains):
        m.give("cache_info", Given(True, f"{where}: cache_info"))
    _masks(m, where, chains)
    _folders(m, where, chains)


def _general_names() -> list[str]:
    return [
        *OF_SUBSETS, *OF_FOLDERS, *OF_DATASETS, *OF_RUNS_IN_SUBSETS, *OF_RUNS_IN_DATASETS,
        "cache_info",
    ]  # fmt: skip


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _check_names(
    m: ConversionBuilder, where: str, table: Mapping[str, Any], known: list[str]
) -> None:
    for name in table:
        if name in REFUSED:
            if table[name] not in _ASKS_FOR_NOTHING[name]:
                m.result.problems.append(Problem(f"{where}: {name}", *REFUSED[name]))
        elif name not in known:
            _unknown(m, where, name, known)


def _unknown(m: ConversionBuilder, where: str, name: str, known: list[str]) -> None:
    hint = did_you_mean(name, known, "leave it out", most=2)
    if name in _general_names():
        # Of [general] and [[datasets]], among whose subsets or beside which it stands.
        hint = "write it under [[datasets]], or under [general]"
    elif name in OF_ONE_FOLDER:
        hint = "write it under [[datasets.subsets]]"
    m.result.problems.append(Problem(f"{where}: {name}", "is not known in this place", hint))


def _first(name: str, layers: Layers) -> Any:
    return next((layer[name] for layer in layers if name in layer), None)


def _shared(m: ConversionBuilder, where: str, name: str, chains: Sequence[Layers]) -> None:
    """A value that all subsets share becomes the argument's; else it is refused."""
    given = [_first(name, layers) for layers in chains]
    if all(value is None for value in given):
        return
    place, values = f"{where}: {name}", []
    for value in given:
        try:
            read = None if value is None else read_value(ARGUMENTS[name].kind, value)
        except ValueError as error:
            m.result.problems.append(Problem(place, str(error), "correct it"))
            return
        values.append(m.value(name) if read is None else read)
    if any(value != values[0] for value in values[1:]):
        texts = " and ".join(dict.fromkeys(str(value) for value in values))
        m.result.problems.append(
            Problem(
                place,
                f"is {texts}: it is a setting of the whole run here",
                "make it the same everywhere",
            )
        )
        return
    m.give(name, Given(values[0], place))


def _masks(m: ConversionBuilder, where: str, chains: list[Layers]) -> None:
    folders = {
        str(_first("conditioning_data_dir", layers[:1]) or "")
        for layers in chains
        if not layers[0].get("is_reg")
    }
    if folders == {""} or not folders:
        return
    place = f"{where}: conditioning_data_dir"
    if len(folders) > 1:
        m.result.problems.append(
            Problem(
                place,
                "there is one folder of masks here (loss.mask_folder)",
                "put the masks into folders of one folder, named like those of the pictures",
            )
        )
        return
    m.give("conditioning_data_dir", Given(folders.pop(), place))


@dataclass(frozen=True, slots=True)
class _Subset:
    """A subset as a folder: its arguments, and the settings that they are.

    Args:
        given: what it says of :data:`OF_SUBSETS` and its data set of :data:`OF_DATASETS`.
        dataset: the number of its data set.
    """

    folder: dict[str, Any]
    given: Mapping[str, Given]
    result: Conversion
    dataset: int


def _folders(m: ConversionBuilder, where: str, chains: Sequence[Layers]) -> None:
    sets = list({id(layers[1]): layers[1] for layers in chains}.values())
    subsets = []
    for layers in chains:
        folder = layers[0].get("image_dir")
        if not folder:
            m.result.problems.append(
                Problem(f"{where}: image_dir", "is missing in a subset", "name its folder")
            )
            continue
        try:
            own = _own(m, str(folder), layers)
        except ValueError as error:
            m.result.problems.append(Problem(f"{where}: {folder}", str(error), "correct it"))
            continue
        given = _given(where, layers)
        number = next(n for n, each in enumerate(sets) if each is layers[1])
        subsets.append(_Subset(own, given, _settings(m, given), number))
    if not subsets:
        return
    first = next((each for each in subsets if not each.folder.get("reg")), subsets[0])
    for name, value in first.given.items():
        m.give(name, value)
    for subset in subsets:
        subset.folder.update(_differences(first.result, subset.result))
        m.result.problems += [p for p in subset.result.problems if p not in first.result.problems]
        m.result.remarks += [r for r in subset.result.remarks if r not in first.result.remarks]
        uncached = subset.result.settings.get("performance.cache_latents")
        if uncached is not None:
            m.result.settings["performance.cache_latents"] = uncached
    _name_groups(subsets)
    folders = [subset.folder for subset in subsets]
    if m.has("dataset_config"):
        m.put("data.folders", folders, "dataset_config")
    else:
        m.result.settings["data.folders"] = Derived(folders, f"{where}: image_dir", where)


def _own(m: ConversionBuilder, folder: str, layers: Layers) -> dict[str, Any]:
    """What only a folder has. Raises ValueError."""
    repeats = _first("num_repeats", layers)
    count = m.value("dataset_repeats")
    if repeats is not None:
        count = read_value("whole", repeats)
    own = {
        "repeats": count,
        "reg": read_value("flag", layers[0].get("is_reg")),
        "caption": _first("class_tokens", layers),
    }
    return {"path": folder, **{name: value for name, value in own.items() if value}}


def _given(where: str, layers: Layers) -> dict[str, Given]:
    """The arguments that stand for what the subset and its data set say."""
    names = {name: (name, layers) for name in OF_SUBSETS}
    names |= {name: (argument, layers[1:]) for name, argument in OF_DATASETS.items()}
    values = {
        name: _first(name, where_it_may_stand) for name, (_, where_it_may_stand) in names.items()
    }
    return {
        names[name][0]: Given(value, f"{where}: {name}")
        for name, value in values.items()
        if value is not None
    }


def _settings(m: ConversionBuilder, given: Mapping[str, Given]) -> Conversion:
    """The settings of images and captions as they are with a subset's arguments."""
    own = ConversionBuilder({**m.given, **given}, ARGUMENTS, sdxl=m.sdxl, complete=False)
    for row in ARGUMENTS.values():
        if row.fate == "setting" and not row.rule and _is_of_folders(row.paths[0]):
            own.put_plain(row)
    for rule in (data.size, data.buckets, data.augmentation, data.captions):
        rule(own)
    return own.result


def _is_of_folders(path: str) -> bool:
    section = path.partition(".")[0]
    return path in ("data.resolution", "train.batch") or section in FOLDER_TABLES


def _differences(base: Conversion, own: Conversion) -> dict[str, Any]:
    """What a folder's settings are that are not those of the run, as its table holds them."""
    differences: dict[str, Any] = {}
    for path in filter(_is_of_folders, dict.fromkeys([*base.settings, *own.settings])):
        default = all_settings()[path].default
        value = own.values.get(path, default)
        if value == base.values.get(path, default):
            continue
        section, _, name = path.partition(".")
        table = differences.setdefault(section, {}) if section in FOLDER_TABLES else differences
        table[name] = NONE if value is None else value
    return differences


def _name_groups(subsets: Sequence[_Subset]) -> None:
    """Data sets that are alike are named, or their folders would share batches."""
    alike: dict[str, set[int]] = {}
    for subset in subsets:
        key = repr([subset.result.values.get(path) for path in _GROUPING])
        alike.setdefault(key, set()).add(subset.dataset)
    named = set().union(*(numbers for numbers in alike.values() if len(numbers) > 1))
    for subset in subsets:
        if subset.dataset in named:
            subset.folder["group"] = f"dataset {subset.dataset + 1}"


_GROUPING = (
    *("data.resolution", "train.batch", "buckets.enabled", "buckets.min", "buckets.max"),
    *("buckets.step", "buckets.upscale"),
)
