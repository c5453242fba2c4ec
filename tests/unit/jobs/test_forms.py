"""What forms are made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasmith.config.load import load_settings
from lorasmith.config.schema import IN_GUIDES, all_settings
from lorasmith.core.errors import SettingsError
from lorasmith.core.events import ignore
from lorasmith.jobs.forms import import_settings, presets, settings_form
from lorasmith.jobs.plan import overrides_of
from lorasmith.jobs.runs.settings import default_values
from lorasmith.jobs.training import PlanRequest


def test_every_setting_is_there_once() -> None:
    form = settings_form()
    records = {one.path: one for section in form.sections for one in section.settings}
    assert list(records) == list(all_settings())
    assert {path for path, one in records.items() if one.simple} == IN_GUIDES
    assert all(one.description and one.why for one in records.values())
    inputs = {path: one.input for path, one in records.items()}
    assert inputs["adapter.rank"] == "integer"
    assert inputs["optimizer.lr"] == "number"
    assert inputs["captions.shuffle"] == "switch"
    assert inputs["preservation.enabled"] == "choice"
    assert inputs["schedule.name"] == "choice"
    assert inputs["data.path"] == "path"
    assert inputs["sample.prompts"] == "list"
    assert inputs["optimizer.args"] == "table"
    assert inputs["captions.trigger"] == "text"
    assert {one.name for one in form.folder} >= {"path", "repeats"}
    json.dumps(form.model_dump(mode="json"), allow_nan=False)


def test_defaults_given_again_are_the_defaults() -> None:
    """What a form shows as a default may be sent back."""
    values = {
        one.path: one.default for section in settings_form().sections for one in section.settings
    }
    request = PlanRequest(settings=overrides_of(values))
    settings = request.load(ignore, for_training=False).settings
    assert settings.model_dump(mode="json") == load_settings().model_dump(mode="json")
    assert values.keys() == default_values().keys()


def test_presets_can_be_given_as_values() -> None:
    assert presets()
    for preset in presets():
        settings = load_settings(None, overrides_of(preset.values))
        assert settings == load_settings(None, preset=preset.name)


def test_settings_of_another_trainer(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text(
        "accelerate launch train_network.py --network_module=networks.lora --network_dim=24 "
        "--train_data_dir=/nowhere --pretrained_model_name_or_path=x.safetensors --lowram\n"
    )
    result = import_settings(script)
    assert result.values["adapter.rank"] == 24
    assert result.values["data.path"] == "/nowhere"
    assert ("adapter.rank", "--network_dim 24") in {(n.setting, n.source) for n in result.notes}
    assert {one.kind for one in result.notes} > {"setting"}
    json.dumps(result.model_dump(mode="json"), allow_nan=False)


def test_settings_that_were_sent(tmp_path: Path) -> None:
    """In the encodings in which such files lie on disks; nothing is looked for at their name."""
    command = "accelerate launch train_network.py --network_module=networks.lora --network_dim=24"
    path = tmp_path / "not there" / "train.ps1"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert import_settings(path, command.encode(encoding)).values["adapter.rank"] == 24
    western = f"{command} --output_name=Zörp".encode("cp1252")
    result = import_settings(path.with_suffix(".bat"), western)
    assert result.values["save.name"] == "Zörp"
    assert any("is not UTF-8" in note.note for note in result.notes)
    kohya = b'{"LoRA_type": "Standard", "network_dim": 8, "train_batch_size": 2, "epoch": 1}'
    assert import_settings(tmp_path / "k.json", kohya).values["adapter.rank"] == 8
    ours = import_settings(tmp_path / "run.toml", b"[adapter]\nrank = 3\nrnak = 4\n")
    assert ours.values == {"adapter.rank": 3}
    assert [(note.kind, note.source) for note in ours.notes] == [("dropped", "adapter.rnak")]
    with pytest.raises(SettingsError, match="is a picture"):
        import_settings(tmp_path / "run.toml", b"\x89PNG\r\n\x1a\n")


def test_settings_of_our_own(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('model = "demo"\n[optimizer]\nlr = 3e-4\n[nonsense]\nx = 1\n')
    assert import_settings(file).values == {"model.path": "demo", "optimizer.lr": 3e-4}
    file.write_text("[[[")
    with pytest.raises(SettingsError):
        import_settings(file)
