"""Imports beside sd-scripts' own argument parser and its reader of data-set files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lorasmith.config.load import load_settings
from lorasmith.config.schema import for_folder
from lorasmith.importers.convert import convert_source
from lorasmith.importers.sd_scripts.argv import read_argv
from lorasmith.importers.sd_scripts.table import ARGUMENTS
from tests.peers.sd_scripts import PEERS, ask

pytestmark = pytest.mark.skipif(
    not (PEERS / "sd-scripts").is_dir(), reason="LORASMITH_PEERS names no checkout of sd-scripts"
)

BASE = ["--pretrained_model_name_or_path=demo", "--network_module=networks.lora"]

OF_SUBSETS: dict[str, list[Any]] = {
    "flip_aug": [True, False], "num_repeats": [1, 2, 5], "shuffle_caption": [True, False],
    "keep_tokens": [0, 1, 2], "keep_tokens_separator": ["|||", " | "],
    "secondary_separator": [";;;"], "caption_separator": [",", " ", ";", ", "],
    "enable_wildcard": [True, False], "token_warmup_step": [0, 10, 5.0],
    "caption_dropout_every_n_epochs": [0, 2], "caption_dropout_rate": [0, 0.1],
    "caption_tag_dropout_rate": [0.0, 0.2], "caption_extension": [".txt", ".caption"],
    "class_tokens": ["zorp girl", "girl"], "cache_info": [True, False],
}  # fmt: skip
OF_SETS: dict[str, list[Any]] = {
    "batch_size": [1, 2, 4], "enable_bucket": [True, False], "bucket_reso_steps": [8, 32, 64],
    "resolution": [512, [512, 768], 640], "max_bucket_reso": [1024, 2048],
    "min_bucket_reso": [128, 320], "network_multiplier": [1.0], "validation_seed": [1, 2],
}  # fmt: skip
ON_COMMAND_LINE = [
    "--train_batch_size=3", "--enable_bucket", "--shuffle_caption", "--keep_tokens=3",
    "--caption_extension=.tag", "--flip_aug", "--caption_dropout_rate=0.3", "--dataset_repeats=7",
    "--caption_separator=;", "--caption_separator= ", "--min_bucket_reso=64",
    "--token_warmup_step=4",
]  # fmt: skip

SAME = {
    "flip_aug": "augment.flip", "shuffle_caption": "captions.shuffle",
    "keep_tokens": "captions.keep_tokens", "secondary_separator": "captions.secondary_separator",
    "keep_tokens_separator": "captions.keep_tokens_separator",
    "caption_separator": "captions.separator", "enable_wildcard": "captions.wildcards",
    "token_warmup_step": "captions.tag_warmup_steps", "caption_dropout_rate": "captions.dropout",
    "caption_dropout_every_n_epochs": "captions.dropout_every_n_epochs",
    "caption_tag_dropout_rate": "captions.tag_dropout", "caption_extension": "captions.extension",
    "batch_size": "train.batch", "enable_bucket": "buckets.enabled",
}  # fmt: skip
IN_BUCKETS = {
    "bucket_reso_steps": "buckets.step", "min_bucket_reso": "buckets.min",
    "max_bucket_reso": "buckets.max",
}  # fmt: skip


def lines_of(random: Random, names: Mapping[str, list[Any]], most: int) -> list[str]:
    chosen = random.sample(sorted(names), random.randint(0, most))
    return [f"{name} = {json.dumps(random.choice(names[name]))}" for name in chosen]


def dataset_question(seed: int) -> dict[str, Any]:
    random = Random(seed)
    lines = ["[general]", *lines_of(random, {**OF_SUBSETS, **OF_SETS}, 6)]
    for _ in range(random.randint(1, 3)):
        lines += ["[[datasets]]", *lines_of(random, {**OF_SUBSETS, **OF_SETS}, 5)]
        for number in range(random.randint(1, 3)):
            lines += ["[[datasets.subsets]]", f'image_dir = "folder {number}"']
            lines += lines_of(random, OF_SUBSETS, 3)
    words = random.sample(ON_COMMAND_LINE, random.randint(0, 3))
    return {"text": "\n".join(lines), "arguments": [*BASE, "--resolution=512", *words]}


DATASETS = [dataset_question(seed) for seed in range(60)]
BEGINNINGS = sorted({name[:end] for name in ARGUMENTS for end in range(4, len(name))})


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Any]]:
    folder = tmp_path_factory.mktemp("sd-scripts")
    questions = {
        "arguments": [[], *(words_for(beginning) for beginning in BEGINNINGS)],
        "dataset_settings": DATASETS,
    }
    return ask(folder, questions)


def words_for(beginning: str) -> list[str]:
    """An argument with a value of the kind that all arguments of that beginning have."""
    kinds = {row.kind for name, row in ARGUMENTS.items() if name.startswith(beginning)}
    values = {"flag": [], "texts": ["a=1"], "text": ["x"], "separator": [";"]}
    return [f"--{beginning}", *(values.get(kinds.pop(), ["7"]) if len(kinds) == 1 else ["7"])]


def test_beginnings_of_names(theirs: Mapping[str, list[Any]]) -> None:
    """Where its parser takes one, so do we, for the same argument."""
    taken = 0
    defaults, *answers = theirs["arguments"]
    for beginning, answer in zip(BEGINNINGS, answers, strict=True):
        if answer is None:
            continue
        (whole,) = [name for name, value in answer.items() if value != defaults[name]]
        assert list(read_argv(words_for(beginning)).given) == [whole], beginning
        taken += 1
    assert taken > 300


@pytest.mark.parametrize("number", range(len(DATASETS)))
def test_data_set_files(theirs: Mapping[str, list[Any]], tmp_path: Path, number: int) -> None:
    question, answer = DATASETS[number], theirs["dataset_settings"][number]
    path = tmp_path / "data.toml"
    path.write_text(question["text"], encoding="utf-8")
    result = convert_source(read_argv([*question["arguments"], f"--dataset_config={path}"]))
    assert result.problems == []
    settings = load_settings(None, result.overrides(), for_training=True)
    assert len(settings.data.folders) == len(answer)
    for folder, params in zip(settings.data.folders, answer, strict=True):
        own = for_folder(settings, folder)
        for name, setting in {**SAME, **(IN_BUCKETS if params["enable_bucket"] else {})}.items():
            section, _, key = setting.partition(".")
            value = params[name][0] if isinstance(params[name], tuple) else params[name]
            assert (getattr(getattr(own, section), key) or None) == (value or None), name
        side = own.data.resolution
        assert (side if isinstance(side, tuple) else (side, side)) == params["resolution"]
        assert folder.repeats == params["num_repeats"]
        assert (folder.caption or None) == params["class_tokens"]
