from __future__ import annotations

import json

import pytest

from lorasmith.lora_tools.inspect.report import Folder
from lorasmith.lora_tools.inspect.training_summary import training_words, trigger_words

KOHYA = {
    "ss_sd_model_name": "model.safetensors", "ss_resolution": "(512, 768)", "ss_steps": "1200",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.01)", "ss_epoch": "10",
    "ss_num_epochs": "10", "ss_max_train_steps": "1600", "ss_min_snr_gamma": "5.0",
    "ss_learning_rate": "0.0001", "ss_noise_offset": "None", "ss_flip_aug": "False",
    "ss_shuffle_caption": "True", "ss_mixed_precision": "no", "ss_loss_type": "l2",
}  # fmt: skip


def test_settings_in_plain_words() -> None:
    assert training_words(KOHYA) == {
        "base model": "model.safetensors",
        "resolution": "512 x 768",
        "epochs": "10",
        "steps": "1200",
        "steps planned": "1600",
        "optimizer": "AdamW8bit(weight_decay=0.01)",
        "learning rate": "0.0001",
        "min-SNR gamma": "5.0",
        "captions shuffled": "yes",
        "precision": "fp32",
    }


def test_trigger_words_are_the_files_own_or_the_common_tags() -> None:
    tags = {"10_zorp": {"zorp": 20, "hat": 3, "smile": 18, "": 0}}
    metadata = {
        "ss_tag_frequency": json.dumps(tags),
        "ss_dataset_dirs": json.dumps({"10_zorp": {"n_repeats": 10, "img_count": 20}}),
    }
    words = trigger_words(metadata)
    assert (words.triggers, words.said) == (("zorp", "smile"), False)
    assert words.folders == (Folder("10_zorp", {"zorp": 20, "smile": 18, "hat": 3}, 20, 10),)
    words = trigger_words({**metadata, "modelspec.trigger_phrase": "zorp, smiling"})
    assert (words.triggers, words.said) == (("zorp, smiling",), True)


def test_words_of_regularisation_captions_are_no_triggers() -> None:
    tags = {
        "1_quib": {"quib": 14, "sitting": 5},
        "1_creature": {"creature": 48, "bunny ears": 17, "light belly": 17},
    }
    metadata = {
        "ss_tag_frequency": json.dumps(tags),
        "ss_dataset_dirs": json.dumps({"1_quib": {"n_repeats": 1, "img_count": 14}}),
        "ss_reg_dataset_dirs": json.dumps({"1_creature": {"n_repeats": 1, "img_count": 48}}),
    }
    words = trigger_words(metadata)
    assert words.triggers == ("quib",)
    assert [(folder.name, folder.reg) for folder in words.folders] == [
        ("1_quib", False), ("1_creature", True),
    ]  # fmt: skip
    assert words.folders[1].pictures == 48
    # Without the table of regularisation folders, those of training are still told.
    del metadata["ss_reg_dataset_dirs"]
    assert trigger_words(metadata).triggers == ("quib",)


def test_folders_have_their_own_triggers() -> None:
    tags = {"1_a": {"zorp": 10, "hat": 3}, "1_b": {"quib": 4, "hat": 4}}
    dirs = {name: {"n_repeats": 1, "img_count": n} for name, n in (("1_a", 10), ("1_b", 4))}
    words = trigger_words(
        {"ss_tag_frequency": json.dumps(tags), "ss_dataset_dirs": json.dumps(dirs)}
    )
    assert [folder.triggers for folder in words.folders] == [("zorp",), ("hat", "quib")]


def test_a_share_above_all_captions_is_of_other_captions_too() -> None:
    """sd-scripts adds up the tags of a training and a regularisation folder of one name."""
    metadata = {
        "ss_tag_frequency": json.dumps({"1_cat": {"zorp": 5, "cat": 25}}),
        "ss_dataset_dirs": json.dumps({"1_cat": {"n_repeats": 1, "img_count": 5}}),
        "ss_reg_dataset_dirs": json.dumps({"1_cat": {"n_repeats": 1, "img_count": 20}}),
    }
    assert trigger_words(metadata).triggers == ("zorp",)


def test_regularisation_folders_of_a_dataset_configuration() -> None:
    subsets = [{"image_dir": "a", "is_reg": False}, {"image_dir": "r", "is_reg": True}]
    tags = {"a": {"zorp": 5}, "r": {"cat": 9}}
    datasets = [{"tag_frequency": tags, "subsets": subsets}, 3, {"subsets": [7, {"image_dir": 1}]}]
    assert trigger_words({"ss_datasets": json.dumps(datasets)}).triggers == ("zorp",)


def test_the_form_with_a_dataset_configuration() -> None:
    dataset = {"tag_frequency": {"x": {"zorp": 5}}, "dataset_dirs": {"x": {"img_count": 5}}}
    assert trigger_words({"ss_datasets": json.dumps([dataset])}).triggers == ("zorp",)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", '"x"', '{"a": 3}', '{"a": {"b": "c"}}', '{"a": {"b": -1}}',
        "[" * 100_000, '{"9999999999999_a": {"b": 2}}', "None",
    ],
)  # fmt: skip
def test_metadata_may_say_anything(text) -> None:
    for key in ("ss_tag_frequency", "ss_dataset_dirs", "ss_datasets"):
        trigger_words({"ss_tag_frequency": '{"a": {"b": 2}}', key: text})
    training_words(dict.fromkeys(KOHYA, text))
