"""Everything that is wrong with images, faces and masks is said at once, before a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings
from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.core.errors import UserError
from lorasmith.training.setup.preflight import RunPlan, preflight, should


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "3_zorp"
    folder.mkdir(parents=True)
    for name in ("a", "b_0040_0030_0020_0020"):
        Image.effect_noise((80, 64), 80).convert("RGB").save(folder / f"{name}.png")
        (folder / f"{name[0]}.txt").write_text("zorp")
    (tmp_path / "masks").mkdir()
    for name in ("a", "b_0040_0030_0020_0020"):
        Image.new("L", (40, 32), 255).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def run_plan(folder: Path, processes: int = 1, **changes: str) -> RunPlan:
    settings = {
        "data.path": str(folder / "data"),
        "save.output": str(folder / "out"),
        "augment.face_crop": "2,4",
        "loss.masked": "folder",
        "loss.mask_folder": str(folder / "masks"),
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return preflight(load_settings(None, settings), processes)


def test_faces_and_masks_are_found(data: Path) -> None:
    found = run_plan(data)
    assert [item.face is not None for item in found.dataset.items] == [False, True]
    assert all(item.mask is not None for item in found.dataset.items)
    assert [item.caption for item in found.dataset.items] == ["zorp", "zorp"], "b.txt is the face's"
    count = found.report.augmentation
    assert (count.faces, count.masked, count.pictures) == (1, 2, 2)


def test_a_rate_far_too_high_is_measured_by_what_the_base_says(data: Path) -> None:
    usual = run_plan(data, model__path="demo").settings.optimizer.lr
    assert isinstance(usual, float)
    plan = run_plan(data, model__path="demo", optimizer__lr="100")
    (problem,) = (one for one in plan.warnings if one.where == "optimizer.lr")
    assert problem.hint == f"take {usual:g}"
    assert f"about {round(100 / usual)} times" in problem.what


def test_all_that_is_wrong_is_said_at_once(data: Path) -> None:
    folder = data / "data" / "3_zorp"
    (folder / "b_0040_0030_0020_0020.png").rename(folder / "b_0400_0030_0020_0020.png")
    Image.new("L", (64, 64), 255).save(data / "masks" / "a.png")
    (data / "masks" / "b_0040_0030_0020_0020.png").write_bytes(b"")
    (data / "masks" / "b_0040_0030_0020_0020.png").rename(
        data / "masks" / "b_0400_0030_0020_0020.png"
    )
    with pytest.raises(UserError) as caught:
        run_plan(data, train__batch="1")
    text = "\n".join(map(str, caught.value.problems))
    assert "another shape (64x64, its picture 80x64)" in text
    assert "the file is empty" in text
    assert "20x20 around 400, 30" in text
    assert len(caught.value.problems) == 3


def test_what_several_processes_cannot_train_is_said(data: Path) -> None:
    fused = {"train__kind": "full", "full__fused_backward": "true"}
    assert run_plan(data, **fused).preservation is None
    with pytest.raises(UserError, match="the 2 processes have summed"):
        run_plan(data, 2, **fused)


def test_a_rate_that_the_base_says_of_full_fine_tuning_is_not_odd(data: Path) -> None:
    said, chosen = (
        {problem.where for problem in run_plan(data, train__kind="full", **more).warnings}
        for more in ({}, {"optimizer__lr": "1e-3"})
    )
    assert "optimizer.lr" not in said
    assert "optimizer.lr" in chosen


def test_a_changed_mask_is_another_dataset(data: Path) -> None:
    before = run_plan(data).fingerprint
    assert run_plan(data).fingerprint == before
    Image.new("L", (40, 32), 128).save(data / "masks" / "a.png")
    assert run_plan(data).fingerprint != before


def test_caption_settings_reach_the_captions(data: Path) -> None:
    (data / "data" / "3_zorp" / "a.txt").write_text("zorp, one, two;;three, four")
    found = run_plan(
        data,
        captions__keep_tokens="1",
        captions__shuffle="false",
        captions__secondary_separator=";;",
        captions__tag_warmup_steps="10",
        captions__tag_warmup_min="1",
    )
    sample = found.dataset.samples[0]
    texts = [found.dataset.caption_for(sample, seed=0, epoch=0, step=step) for step in (0, 5, 10)]
    assert texts == ["zorp, one", "zorp, one, two,three", "zorp, one, two,three, four"]
    assert found.dataset.captions_vary


def test_what_was_worked_out_holds_when_a_run_is_resumed(data: Path) -> None:
    (data / "data" / "3_zorp" / "a.txt").write_text("blib, one")
    path = data / "settings.toml"
    for changes in ({}, {"validation__split": "50%"}, {"captions__trigger": "none"}):
        first = run_plan(data, **changes)
        assert isinstance(first.settings.train.epochs, int)
        assert first.settings.optimizer.lr == 2e-3, "the demo model's own"
        path.write_text(dump_toml(first.settings), encoding="utf-8")
        again = preflight(load_settings(path))
        assert again.settings == first.settings
        assert (again.steps, again.fingerprint) == (first.steps, first.fingerprint)
        assert not again.suited or not again.suited.origins
        longer = preflight(load_settings(path, ["train.epochs=9999"]))
        assert longer.epochs == 9999


PLAIN = {"augment__face_crop": "none", "loss__masked": "off", "loss__mask_folder": "none"}


def test_triggers_of_several_folders_are_found_again(data: Path) -> None:
    other = data / "data" / "2_blib"
    other.mkdir()
    Image.new("RGB", (64, 64), "red").save(other / "x.png")
    first = run_plan(data, **PLAIN)
    assert [trigger.text for trigger in first.triggers] == ["blib", "zorp"]
    assert first.settings.captions.trigger == "auto"
    again = preflight(first.settings)
    assert again.fingerprint == first.fingerprint


def test_a_run_that_is_far_too_short_is_told(data: Path) -> None:
    warnings = run_plan(data, train__epochs="1", **PLAIN).warnings
    (problem,) = [one for one in warnings if one.where.startswith("train.")]
    assert problem.where == "train.epochs"
    assert not [one for one in run_plan(data, **PLAIN).warnings if one.where.startswith("train.")]


def test_what_amounts_to_the_same_is_one_group(tmp_path: Path) -> None:
    """Folders share batches, and regularisation is matched, by what holds for them in the end."""
    for name in ("a", "b", "reg", "other"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), "red").save(tmp_path / name / "x.png")
    path = tmp_path / "s.toml"
    path.write_text(
        'model = "demo"\n[train]\nbatch = 2\n[data]\nREG\n'
        f'[[data.folders]]\npath = "{tmp_path / "a"}"\nrepeats = 3\n'
        f'[[data.folders]]\npath = "{tmp_path / "b"}"\nresolution = 64\nbatch = 2\n'
        f'[[data.folders]]\npath = "{tmp_path / "other"}"\nresolution = 96\n'
        f'[[data.folders]]\npath = "{tmp_path / "reg"}"\nreg = true\nMORE\n'
    )

    def made(more: str = "", reg: str = "") -> RunPlan:
        settings = tmp_path / "own.toml"
        settings.write_text(path.read_text().replace("MORE", more).replace("REG", reg))
        return preflight(load_settings(settings, {}))

    def uses(one: RunPlan) -> list[tuple[int, int]]:
        return [(item.group, item.repeats) for item in one.dataset.items]

    assert uses(made()) == [(0, 3), (0, 1), (1, 1), (0, 4)]
    assert uses(made("resolution = 96")) == [(0, 3), (0, 1), (1, 1), (1, 1)]
    alone = made('group = "alone"')
    assert uses(alone) == [(0, 3), (0, 1), (1, 1), (2, 0)]
    # data.reg is of the run's own size, whichever folder stands first.
    beside = made("resolution = 96", f'reg = "{tmp_path / "other"}"')
    assert uses(beside) == [(0, 3), (0, 1), (1, 1), (1, 1), (0, 4)]


def test_regularisation_without_training_images_is_said(tmp_path: Path) -> None:
    for name in ("a", "reg"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), "red").save(tmp_path / name / "x.png")
    path = tmp_path / "s.toml"
    path.write_text(
        f'model = "demo"\n[[data.folders]]\npath = "{tmp_path / "a"}"\n'
        f'[[data.folders]]\npath = "{tmp_path / "reg"}"\nreg = true\nresolution = 96\n'
    )
    warnings = preflight(load_settings(path, {})).report.warnings
    said = [one.what for one in warnings if one.where == str(tmp_path / "reg")]
    assert any("1 regularisation picture is not used: no training pictures" in one for one in said)


def test_nothing_is_measured_where_auto_has_stayed() -> None:
    validation = ValidationSettings()
    assert validation.every_epochs == "auto"
    assert not should(validation, 10, 1, True)
    assert not should(validation.model_copy(update={"every_steps": 5}), 10, 1, True)
