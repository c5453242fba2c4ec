"""How a LoRA was trained, from the ``ss_*`` metadata that sd-scripts and lorasmith write into it.

Names are those of ``train_network.py`` of kohya-ss/sd-scripts; values are texts as Python prints
them, with "None" for what was not given, and JSON for what is nested.
"""

from __future__ import annotations

import ast
import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.files import SafetensorsHeader, parse_json, read_safetensors_header
from lorasmith.core.rng import MAX_SEED
from lorasmith.formats.training_metadata import ENTRIES
from lorasmith.importers.conversion import Given, Remark, Source
from lorasmith.importers.sd_scripts.datasets import OF_DATASETS, OF_SUBSETS
from lorasmith.importers.sd_scripts.optimizer import NAMES
from lorasmith.importers.sd_scripts.table import ARGUMENTS

KIND = "the metadata of a LoRA file"

# Entries that have an argument's name behind "ss_".
_ALIKE = [key.removeprefix("ss_") for key, entry in ENTRIES.items() if entry.argument]
_RENAMED = {"debiased_estimation": "debiased_estimation_loss"}

UNTOLD = {
    "captions.trigger_in_front": "",
    "preservation.enabled": "whether the base model's output was kept",
    "captions.extension": "the ending of the caption files: .txt and .caption are both read",
    "save.every_epochs": "how often it was saved",
    "sample.every_epochs": "sample prompts",
    "sample.at_start": "",
    "log.tensorboard": "",
    "performance.cache_latents": "",
    "buckets.step": "the steps of the buckets' sides",
}
"""Settings that the metadata says nothing of: they stay as they are here, with what is told."""

_SCALARS = {"F16": "<e", "F32": "<f", "F64": "<d", "BF16": "<f"}
_SAVED = {"F16": "fp16", "BF16": "bf16", "F32": "float"}
_NONE = ("", "None", "null")

# Entries that other programs write, with what is in them.
_OTHER_PROGRAMS = (
    ("ot_branch", "", "OneTrainer"),
    ("ot_config", "", "OneTrainer"),
    ("software", "ai-toolkit", "ai-toolkit"),
    ("lora_adapter_metadata", "", "diffusers and PEFT"),
)


def read_lora_file(path: Path) -> Source:
    """The arguments that a LoRA says it was trained with, and what it does not say.

    Raises:
        SettingsError: it cannot be read, or says nothing of its training.
    """
    try:
        header = read_safetensors_header(path)
    except ValueError as error:
        raise SettingsError.of(path, str(error), "give a whole file") from error
    except OSError as error:
        raise SettingsError.of(path, "cannot be read", "give the path of a file") from error
    entries = {
        name.removeprefix("ss_"): value
        for name, value in header.metadata.items()
        if name.startswith("ss_")
    }
    if "network_module" not in entries:
        what = "says nothing of how it was trained: its metadata has no ss_network_module"
        for entry, text, program in _OTHER_PROGRAMS:
            if entry in header.metadata and text in header.metadata[entry]:
                what = f"is of {program}, whose metadata is not read"
        raise SettingsError.of(path, what, "give a LoRA that sd-scripts or lorasmith trained")
    source = _Reader(path, header, entries).read()
    sides = (("buckets.min", "min_bucket_reso"), ("buckets.max", "max_bucket_reso"))
    source.untold = (*UNTOLD, *(path for path, name in sides if name not in source.given))
    return source


class _Reader:
    def __init__(self, path: Path, header: SafetensorsHeader, entries: Mapping[str, str]) -> None:
        self.path, self.name, self.header, self.entries = path, path.name, header, entries
        self.source = Source(KIND)
        self.untold = [text for text in UNTOLD.values() if text]

    def read(self) -> Source:
        for entry in (*_ALIKE, *_RENAMED):
            self._take(entry, _RENAMED.get(entry, entry))
        self._datasets()
        self._resolution()
        self._batch()
        self._length()
        self._optimizer()
        self._sizes()
        self._seed()
        self._base()
        self._images()
        absent = [
            name for name in _ALIKE if name not in self.entries and name not in self.source.given
        ]
        if absent:
            why = "these are not in the metadata; sd-scripts' defaults are taken"
            self._note(", ".join(absent), why)
        if self.entries.get("lr_scheduler") in ("cosine_with_restarts", "polynomial"):
            self.untold.append("the number of cycles and the power of the schedule: 1, as there")
        self._note("not in any LoRA's metadata", "; ".join(self.untold))
        return self.source

    def _take(self, entry: str, argument: str) -> None:
        value = self.entries.get(entry)
        if value is None or value.strip() in (*_NONE, "False"):  # As every flag is by itself.
            return
        self._give(argument, _python(value), entry)

    def _give(self, argument: str, value: Any, entry: str) -> None:
        self.source.given[argument] = Given(value, f"{self.name}: ss_{entry}")

    def _note(self, what: str, why: str) -> None:
        self.source.remarks.append(Remark("noted", what, why))

    def _datasets(self) -> None:
        """Runs with ``--dataset_config`` have a list of data sets in place of the entries."""
        sets = [
            each for each in _json(self.entries.get("datasets")) or [] if isinstance(each, dict)
        ]
        if not sets:
            return
        if len(sets) > 1:
            self._note(f"{len(sets)} data sets", "those of the first are taken for all")
        subsets = [each for each in sets[0].get("subsets") or [] if isinstance(each, dict)]
        for table, names in (
            (sets[0], OF_DATASETS),
            *((each, OF_SUBSETS) for each in subsets[:1]),
        ):
            for name in names:
                if name in ARGUMENTS and table.get(name) not in (None, ""):
                    self._give(name, table[name], "datasets")
        if isinstance(sets[0].get("batch_size_per_device"), int):
            self._give("train_batch_size", sets[0]["batch_size_per_device"], "datasets")
        for each in subsets:
            self._folder(str(each.get("image_dir")), each.get("num_repeats"), each.get("img_count"))

    def _resolution(self) -> None:
        """``(512, 768)``, as Python prints width and height."""
        given = self.source.given.get("resolution")
        if given is not None and isinstance(given.raw, list | tuple):
            text = ",".join(str(side) for side in given.raw)
            self.source.given["resolution"] = Given(text, given.where)

    def _batch(self) -> None:
        for entry in ("batch_size_per_device", "total_batch_size"):
            if "train_batch_size" not in self.source.given:
                self._take(entry, "train_batch_size")

    def _length(self) -> None:
        steps, epochs, batches, accumulation = (
            _whole(self.entries.get(name))
            for name in ("max_train_steps", "num_epochs", "num_batches_per_epoch",
                         "gradient_accumulation_steps")
        )  # fmt: skip
        each = -(-batches // (accumulation or 1)) if batches else None
        if epochs and (steps is None or (each and each * epochs == steps)):
            self._give("max_train_epochs", epochs, "num_epochs")
        elif steps:
            self._give("max_train_steps", steps, "max_train_steps")
        done = _whole(self.entries.get("epoch"))
        if done and epochs and done < epochs:
            self._note(f"ss_epoch {done}", f"this file was saved at epoch {done} of {epochs}")

    def _optimizer(self) -> None:
        """``module.Class(weight_decay=0.1,betas=(0.9, 0.99))``."""
        text = self.entries.get("optimizer", "")
        path, _, rest = text.partition("(")
        name = path.strip().rpartition(".")[2]
        if not name or text.strip() in _NONE:
            self.untold.append("the optimizer")
            return
        try:
            call = ast.parse(f"f({rest}" if rest else "f()", mode="eval").body
            assert isinstance(call, ast.Call)
            args = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
        except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
            self._note(f"ss_optimizer {text}", "its arguments cannot be read and are left out")
            args = {}
        kind = name
        if name.lower().startswith("sgd") and args.get("nesterov"):
            kind = {"sgd": "SGDNesterov", "sgd8bit": "SGDNesterov8bit"}.get(name.lower(), name)
            args.pop("nesterov")
            if args.get("momentum") == 0.9:
                args.pop("momentum")
        self._give("optimizer_type", kind if kind.lower() in NAMES else path.strip(), "optimizer")
        if args:
            texts = [f"{key}={_argument(value)}" for key, value in args.items()]
            self._give("optimizer_args", texts, "optimizer")

    def _sizes(self) -> None:
        """Of a file that was resized or merged, whose rank is "Dynamic", the usual one."""
        sizes = Counter(self._layers())
        for place, argument in enumerate(("network_dim", "network_alpha")):
            given = self.source.given.get(argument)
            if given is None or isinstance(given.raw, int | float):
                continue
            del self.source.given[argument]
            if sizes:
                size, count = sizes.most_common(1)[0][0][place], max(sizes.values())
                self._give(argument, size, argument)
                layers = f"that of {count} of its {sizes.total()} layers"
                self._note(f"ss_{argument} {given.raw}", f"{size:g} is taken, {layers}")
            else:
                self._note(f"ss_{argument} {given.raw}", "is no number and is left out")
        args = self.source.given.get("network_args")
        if args is not None and not isinstance(args.raw, dict):
            self.source.given["network_args"] = Given(_json(str(args.raw)) or {}, args.where)
        kinds = Counter(info.dtype for info in self.header.tensors.values() if info.shape)
        saved = _SAVED.get(kinds.most_common(1)[0][0]) if kinds else None
        if saved:
            where = f"{self.name}: its tensors"
            self.source.given["save_precision"] = Given(saved, where)

    def _layers(self) -> Iterator[tuple[int, float]]:
        """Rank and alpha of each layer; its alpha is its rank where it names none."""
        with open(self.path, "rb") as file:
            for name, info in self.header.tensors.items():
                if not name.endswith(".lora_down.weight") or not info.shape:
                    continue
                rank = info.shape[0]
                alpha = self.header.tensors.get(name.removesuffix("lora_down.weight") + "alpha")
                if alpha is None or alpha.dtype not in _SCALARS or math.prod(alpha.shape) != 1:
                    yield rank, float(rank)
                    continue
                file.seek(alpha.begin)
                yield rank, _scalar(file.read(alpha.end - alpha.begin), alpha.dtype)

    def _seed(self) -> None:
        """A number that was drawn with there and cannot be a seed here says nothing of worth."""
        given = self.source.given.get("seed")
        if given is None or (isinstance(given.raw, int) and 0 <= given.raw <= MAX_SEED):
            return
        if isinstance(given.raw, float) and given.raw.is_integer() and 0 <= given.raw < MAX_SEED:
            return
        del self.source.given["seed"]
        self._note(f"ss_seed {given.raw}", f"is not from 0 to {MAX_SEED}; 0 is taken")

    def _base(self) -> None:
        version = self.entries.get("base_model_version", "")
        predicts = self.header.metadata.get("modelspec.prediction_type", "")
        self.source.sdxl = version.startswith("sdxl")
        if version and not version.startswith(("sd_v1", "sd_v2", "sdxl")):
            what = f"was trained for {version}, which is not trained here"
            self.source.problems.append(
                Problem(f"{self.name}: ss_base_model_version", what, "use another program")
            )
        if version.endswith("_v") or predicts in ("v", "v_prediction"):
            self._give("v_parameterization", True, "base_model_version")
        base = self.entries.get("sd_model_name", "")
        name = f"{base!r}" if base not in _NONE else "not named"
        self._note("the base model", f"the file's name was {name}; add --model")
        vae = self.entries.get("vae_name", "")
        if vae not in _NONE:
            self._note("the VAE", f"the file's name was {vae!r}; add --model.vae")

    def _images(self) -> None:
        self._note("the pictures", "their place is not told; add --data")
        for entry, kind in (("dataset_dirs", ""), ("reg_dataset_dirs", "regularisation ")):
            folders = _json(self.entries.get(entry))
            for name, facts in folders.items() if isinstance(folders, dict) else ():
                if isinstance(facts, dict):
                    self._folder(str(name), facts.get("n_repeats"), facts.get("img_count"), kind)

    def _folder(self, name: str, repeats: Any, count: Any, kind: str = "") -> None:
        self._note(f"{kind}folder {name}", f"held {count} pictures, each used {repeats} times")


def _argument(value: Any) -> str:
    return ",".join(str(each) for each in value) if isinstance(value, tuple | list) else str(value)


def _python(text: str) -> Any:
    """A value as Python printed it; the text itself where it is none."""
    text = text.strip()
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _scalar(data: bytes, dtype: str) -> float:
    # bfloat16 is the upper half of float32.
    return float(struct.unpack(_SCALARS[dtype], b"\0\0" * (dtype == "BF16") + data)[0])


def _json(text: str | None) -> Any:
    try:
        return parse_json(text or "null")
    except (ValueError, RecursionError):
        return None


def _whole(text: str | None) -> int | None:
    value = _python(text or "")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
