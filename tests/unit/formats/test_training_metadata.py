"""Metadata as readers of LoRA files parse it."""

from __future__ import annotations

import json

from lorasmith.formats.training_metadata import ModelSpec, TrainingFacts, bucket_info, tag_frequency


def facts(**more: object) -> TrainingFacts:
    values = {
        "output_name": "cat",
        "learning_rate": 1e-4,
        "num_train_images": 20,
        "num_batches_per_epoch": 20,
        "num_epochs": 10,
        "epoch": 10,
        "steps": 200,
        "batch_size_per_device": 1,
        "total_batch_size": 1,
        "resolution": "(512, 512)",
        "max_train_steps": 200,
        "network_dim": 16,
        "network_alpha": 8.0,
        "seed": 0,
        "optimizer": "torch.optim.adamw.AdamW(weight_decay=0.01)",
    }
    return TrainingFacts(**{**values, **more})


def test_values_are_the_strings_that_sd_scripts_writes():
    written = facts(min_snr_gamma=5.0, v2=False, training_started_at=1700000000.5).metadata()
    assert all(isinstance(value, str) for value in written.values())
    assert written["ss_learning_rate"] == "0.0001"
    assert written["ss_v2"] == "False"
    assert written["ss_clip_skip"] == "None"
    assert written["ss_min_snr_gamma"] == "5.0"
    assert written["ss_network_dim"] == "16"
    assert written["ss_network_module"] == "networks.lora"
    assert written["ss_training_started_at"] == "1700000000.5"
    # The smallest set that sd-scripts keeps even when told to write none.
    needed = ("v2", "base_model_version", "network_module", "network_dim", "network_alpha")
    assert all(f"ss_{name}" in written for name in needed)


def test_what_is_not_known_is_left_out():
    written = facts().metadata()
    assert not {"ss_sd_model_hash", "ss_training_started_at", "ss_network_args"} & set(written)
    assert (
        facts(network_args={"conv_dim": "4"}).metadata()["ss_network_args"] == '{"conv_dim": "4"}'
    )


def test_nested_values_are_json():
    written = facts(
        tag_frequency={"10_cat": tag_frequency([["cat", "Red Hat"], ["cat"]])},
        bucket_info=bucket_info({(512, 512): 12, (448, 576): 8}, 0.01),
        dataset_dirs={"10_cat": {"n_repeats": 10, "img_count": 2}},
    ).metadata()
    assert json.loads(written["ss_tag_frequency"]) == {"10_cat": {"cat": 2, "red hat": 1}}
    assert json.loads(written["ss_bucket_info"]) == {
        "buckets": {
            "0": {"resolution": [448, 576], "count": 8},
            "1": {"resolution": [512, 512], "count": 12},
        },
        "mean_img_ar_error": 0.01,
    }
    assert json.loads(written["ss_dataset_dirs"])["10_cat"]["n_repeats"] == 10
    assert json.loads(written["ss_reg_dataset_dirs"]) == {}


def test_modelspec():
    written = ModelSpec(
        title="cat",
        resolution=(512, 768),
        clip_skip=2,
        timestamp=1700000000.9,
        trigger_phrase="sks cat",
    ).metadata()
    assert written.pop("modelspec.implementation_version").startswith("lorasmith/")
    assert written == {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "cat",
        "modelspec.resolution": "512x768",
        "modelspec.prediction_type": "epsilon",
        "modelspec.encoder_layer": "2",
        "modelspec.date": "2023-11-14T22:13:20+00:00",
        "modelspec.trigger_phrase": "sks cat",
    }


def test_modelspec_of_another_architecture():
    spec = ModelSpec(title="x", resolution=(1, 1), architecture="stable-diffusion-v2-768-v")
    assert spec.metadata()["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"
