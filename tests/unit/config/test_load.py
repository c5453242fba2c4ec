"""Layers, overrides, TOML in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lorasmith.cli.main import cli
from lorasmith.config import load
from lorasmith.config.adapter_types import having
from lorasmith.config.checks import table as checks
from lorasmith.config.dump import dump_toml, toml_value
from lorasmith.config.fields import Setting, settings_of
from lorasmith.config.load import Override, load_settings
from lorasmith.config.presets import preset_names, read_preset
from lorasmith.config.reference import settings_page
from lorasmith.config.schema import TrainSettings, all_settings, for_folder, sections
from lorasmith.core.errors import SettingsError


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_later_layers_win(tmp_path: Path) -> None:
    toml = write(tmp_path, "[adapter]\nrank = 8\n[train]\nepochs = 3\n")
    settings = load_settings(toml, ["train.epochs=4"], "character")
    assert settings.adapter.alpha == 16, "from the preset"
    assert settings.adapter.rank == 8, "from the file"
    assert settings.train.epochs == 4, "from the command line"
    assert settings.train.batch == 1, "the default"


def test_short_forms_of_model_and_data(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'model = "a.safetensors"\ndata = "pictures"\n'))
    assert settings.model.path == "a.safetensors"
    assert settings.data.path == Path("pictures")
    # A later layer may still set what stands beside the path.
    more = load_settings(write(tmp_path, 'model = "a.ckpt"'), ["model.clip_skip=2"])
    assert (more.model.path, more.model.clip_skip) == ("a.ckpt", 2)
    assert load_settings(None, ["model=b.ckpt"]).model.path == "b.ckpt"


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("optimizer.lr=1e-4", 1e-4),
        ("optimizer.lr=.5", 0.5),
        ("optimizer.name=prodigy", "Prodigy"),
        (
            "optimizer.args=weight_decay=0.01 betas=0.9,0.99",
            {"weight_decay": 0.01, "betas": (0.9, 0.99)},
        ),
        ("optimizer.args={weight_decay = 0.1}", {"weight_decay": 0.1}),
        ("optimizer.args.eps=1e-6", {"eps": 1e-6}),
        ("schedule.warmup=5%", 0.05),
        ("schedule.warmup=100", 100),
        ("data.resolution=512x768", (512, 768)),
        ("data.resolution=[512, 768]", (512, 768)),
        ("data.path=a folder/with spaces", Path("a folder/with spaces")),
        ('data.path="quoted"', Path("quoted")),
        ("save.name=123", "123"),
        ("save.every_epochs=none", None),
        ("save.every_epochs=0", None),
        ("save.comment=a = b", "a = b"),
        ("captions.shuffle=TRUE", True),
        ("captions.extension=txt", ".txt"),
        ("loss.min_snr_gamma=none", None),
        ("loss.min_snr_gamma=0", None),
        ("model.max_tokens=225", 225),
        ("performance.cache_text=false", False),
        ("performance.cache_text=Auto", "auto"),
        ("log.every_steps=5", 5),
        ("sample.prompts=a cat, sitting", ["a cat, sitting"]),
        ('sample.prompts=["a", "b"]', ["a", "b"]),
        ("sample.prompts=123", ["123"]),
        ("train.batch=2.0", 2),
    ],
)
def test_values_on_the_command_line(assignment: str, value: Any) -> None:
    settings = load_settings(None, [assignment])
    section, name = assignment.partition("=")[0].split(".")[:2]
    assert getattr(getattr(settings, section), name) == value


def test_single_arguments_are_added_to_those_of_the_preset() -> None:
    args = load_settings(None, ["optimizer.args.d_coef=1"], "prodigy").optimizer.args
    assert args["d_coef"] == 1
    assert args["betas"] == (0.9, 0.99)


def test_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_settings(None, ["data.path=~/pictures"]).data.path == Path("/home/someone/pictures")


def test_mapping_and_override_objects_mean_the_same() -> None:
    written = load_settings(None, ["train.epochs=3"])
    assert load_settings(None, {"train.epochs": "3"}) == written
    assert load_settings(None, [Override("train.epochs", "3", "--epochs")]) == written


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[save]\ncomment = "für Åse"\n', encoding=encoding)
    assert load_settings(path).save.comment == "für Åse"


@pytest.mark.parametrize("start", [b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF1234WEBP"])
def test_a_picture_is_no_settings_file(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "zorp.png").write_bytes(start + b"\x00")
    with pytest.raises(SettingsError, match="is a picture") as info:
        load_settings(tmp_path / "zorp.png")
    assert info.value.problems[0].hint.endswith(str(tmp_path))
    result = CliRunner().invoke(cli, ["train", str(tmp_path / "zorp.png"), "--model", "demo"])
    assert result.exit_code == 2
    assert "is a picture" in result.output


def test_what_cannot_be_nought_says_how_it_is_switched_off() -> None:
    with pytest.raises(SettingsError) as info:
        load_settings(None, overrides=["preservation.weight=0"])
    assert info.value.problems[0].hint == "to switch it off: preservation.enabled = false"


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="newer lorasmith"):
        load_settings(write(tmp_path, "version = 99\n"))


def test_older_files_are_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(values: dict[str, Any]) -> dict[str, Any]:
        return {"adapter": {"rank": values["network"]["dim"]}}

    monkeypatch.setattr(load, "VERSION", 2)
    monkeypatch.setattr(load, "MIGRATIONS", {1: renamed})
    path = write(tmp_path, "version = 1\n[network]\ndim = 5\n")
    assert load_settings(path).adapter.rank == 5


def test_a_folders_own_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[captions]\nshuffle = true\n[buckets]\nmin = 256\n[[data.folders]]\npath = "a"\n'
        'resolution = 768\nbatch = 2\ncaptions = {prefix = "zorp"}\nbuckets = {min = "none"}\n'
        '[[data.folders]]\npath = "b"\nkeep_tokens = 2\n',
        encoding="utf-8",
    )
    settings = load_settings(path, for_training=True)
    own, other = (for_folder(settings, folder) for folder in settings.data.folders)
    assert (own.data.resolution, own.train.batch, own.buckets.min) == (768, 2, None)
    assert (own.captions.prefix, own.captions.shuffle) == ("zorp", True)
    assert (other.data.resolution, other.train.batch, other.buckets.min) == (None, 1, 256)
    assert (other.captions.keep_tokens, other.captions.prefix) == (2, "")
    path.write_text(dump_toml(settings), encoding="utf-8")
    assert load_settings(path) == settings


@pytest.mark.parametrize(
    ("line", "where", "says"),
    [
        ("captions = {shufle = true}", "data.folders[1].captions.shufle", "captions.shuffle"),
        ("captions = {dropout = 3}", "data.folders[1].captions.dropout", "out of range"),
        ("captions = 3", "data.folders[1].captions", "table"),
        ("buckets = {min = 900, max = 300}", "data.folders[1]: buckets", "larger than max"),
        ("batch = 0", "data.folders[1].batch", "out of range"),
        ("lr = 1", "data.folders[1].lr", "not a known setting"),
    ],
)
def test_wrong_settings_of_a_folder(tmp_path: Path, line: str, where: str, says: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'[[data.folders]]\npath = "a"\n{line}\n', encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(path, for_training=True)
    (problem,) = caught.value.problems
    assert where in problem.where
    assert says in str(problem)


@pytest.mark.parametrize(
    ("line", "trigger"), [("", "auto"), ('trigger = ""', "auto"), ('trigger = "x"', "x")]
)
def test_captions_of_former_runs_stay_as_they_were(tmp_path: Path, line: str, trigger: str) -> None:
    """Their triggers were only checked for, so that they can be resumed."""
    captions = load_settings(write(tmp_path, f"version = 1\n[captions]\n{line}\n")).captions
    assert (captions.trigger, captions.trigger_in_front) == (trigger, False)
    old = write(tmp_path, 'version = 1\nmodel = "a.safetensors"\n')
    assert not load_settings(old).model.defaults, "nor do they begin to go by what suits a base"
    assert load_settings(write(tmp_path, f"[captions]\n{line}\n")).captions.trigger_in_front


@pytest.mark.parametrize("text", ["none", "None", "", " "])
def test_no_trigger(text: str) -> None:
    settings = load_settings(None, [f"captions.trigger={text}"])
    assert settings.captions.trigger == ""
    assert load_settings(None, ["captions.trigger=Auto"]).captions.trigger == "auto"


def test_folders(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[[data.folders]]\npath = "a"\nrepeats = 3\n[[data.folders]]\npath = "b"\nreg = true\n',
    )
    first, second = load_settings(path, for_training=True).data.folders
    assert (first.path, first.repeats, second.reg) == (Path("a"), 3, True)


# Anything may be written in a settings file

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars.filter(lambda value: value is not None),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
sections_and_more = st.sampled_from([*sections(), "preset", "version", "lr"])
settings_and_more = st.sampled_from([item.name for item in all_settings().values()] + ["nope"])


@pytest.mark.slow
@hypothesis_settings(max_examples=60)
@given(
    st.dictionaries(
        sections_and_more, anything | st.dictionaries(settings_and_more, anything, max_size=4)
    )
)
def test_whatever_a_file_says_is_taken_or_explained(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    text = "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items())
    path = write(tmp_path_factory.getbasetemp(), text)
    try:
        load_settings(path)
    except SettingsError as error:
        unexplained = [problem for problem in error.problems if not problem.what]
        if unexplained:
            raise AssertionError(unexplained) from error


@hypothesis_settings(max_examples=60)
@given(st.sampled_from(list(all_settings())), st.text(max_size=12))
def test_whatever_the_command_line_says_is_taken_or_explained(path: str, text: str) -> None:
    try:
        load_settings(None, {path: text})
    except SettingsError as error:
        unexplained = [problem for problem in error.problems if not problem.what]
        if unexplained:
            raise AssertionError(unexplained) from error


# TOML out


def test_every_setting_survives_a_round_trip(tmp_path: Path) -> None:
    """Each setting in turn at another value than its default."""
    other: dict[type, Callable[[Any], list[Any]]] = {
        bool: lambda v: [not v],
        int: lambda v: [(v or 8) + 8, (v or 8) - 8],
        float: lambda v: [(v or 0.25) / 2, (v or 0.25) * 2],
    }
    changed = 0
    for item in all_settings().values():
        value = getattr(getattr(TrainSettings(), item.section), item.name)
        if len(item.choices) > 1:
            new: Any = next(c for c in item.choices if c != str(value))
        elif type(value) in other or (item.types[0] in other and value is None):
            new = next(v for v in other[item.types[0]](value) if _in_range(v, item))
        else:
            continue
        settings = load_settings(None, {f"{item.path}": str(new).lower()} | _needed(item.path))
        assert getattr(getattr(settings, item.section), item.name) != value, item.path
        assert load_settings(write(tmp_path, dump_toml(settings))) == settings, item.path
        changed += 1
    assert changed > 50


def _in_range(value: float, item: Setting) -> bool:
    low, high = item.low, item.high
    return (low is None or value >= low) and (high is None or value <= high)


def _needed(path: str) -> dict[str, str]:
    """What must be set too, so that the settings do not contradict each other."""
    section, _, name = path.partition(".")
    types = having(name) if section == "adapter" else []
    if types and "lora" not in types:
        return {"adapter.type": types[0], "adapter.rank": "18"}
    return {
        "performance.cache_text": {"adapter.text_encoder": "false"},
    }.get(path, {})


# What survives a file: no lone surrogates, and no "none", which means something else.
words = st.text(max_size=20).filter(lambda text: text.strip().lower() != "none")
names = st.text("abcXYZ_-0 ü", min_size=1, max_size=12).filter(lambda t: t.strip() == t)
paths = st.text("abc /.\\'\"~ü", min_size=1, max_size=12).filter(
    lambda t: t.strip() and t[0] != "~"
)
rates = st.floats(0, 100, allow_nan=False)


@given(
    comment=words,
    prompts=st.lists(words, max_size=3),
    name=names,
    path=paths,
    lr=rates,
    args=st.dictionaries(
        st.sampled_from(["betas", "eps", "weight_decay", "amsgrad"]),
        st.one_of(st.booleans(), rates, st.tuples(rates, rates), st.integers(-5, 5)),
    ),
    folders=st.lists(st.tuples(paths, st.integers(1, 9), st.none() | words), max_size=3),
    size=st.none() | st.integers(16, 512) | st.tuples(st.integers(16, 512), st.integers(16, 512)),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, **drawn: Any) -> None:
    settings = TrainSettings.model_validate(
        {
            "save": {"comment": drawn["comment"], "name": drawn["name"], "output": drawn["path"]},
            "sample": {"prompts": drawn["prompts"], "negative": drawn["comment"]},
            "optimizer": {"lr": max(drawn["lr"], 1e-9), "args": drawn["args"]},
            "data": {
                "resolution": drawn["size"],
                "folders": [
                    {"path": path, "repeats": repeats, "caption": caption}
                    for path, repeats, caption in drawn["folders"]
                ],
            },
        }
    )
    path = write(tmp_path_factory.getbasetemp(), dump_toml(settings))
    assert load_settings(path) == settings
    assert dump_toml(load_settings(path)) == dump_toml(settings)


def test_absolute_paths_mean_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model.ckpt").touch()
    monkeypatch.chdir(tmp_path / "here")
    settings = load_settings(None, ["data=pictures", "model=model.ckpt"])
    toml = write(tmp_path, dump_toml(settings, base=Path()))
    monkeypatch.chdir(tmp_path)
    again = load_settings(toml)
    assert again.data.path == tmp_path / "here" / "pictures"
    assert again.model.path == str(tmp_path / "here" / "model.ckpt")
    hub = load_settings(None, ["model=runwayml/stable-diffusion-v1-5"])
    assert load_settings(write(tmp_path, dump_toml(hub, base=Path()))).model == hub.model
    assert (
        load_settings(write(tmp_path, dump_toml(TrainSettings(), base=Path()))).model.path == "demo"
    )


# Presets


def test_there_are_presets() -> None:
    assert {"character", "style", "concept", "demo", "prodigy"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_explained_and_not_odd(name: str) -> None:
    preset = read_preset(name)
    assert preset.title
    assert len(preset.explains) > 100
    settings = load_settings(None, preset=name)
    assert checks.warnings(settings) == []


def test_a_copied_preset_is_a_settings_file(tmp_path: Path) -> None:
    from lorasmith.config.presets import FOLDER

    text = (FOLDER / "character.toml").read_text(encoding="utf-8")
    assert load_settings(write(tmp_path, text)) == load_settings(None, preset="character")


# Reference page


@pytest.mark.parametrize("line", ['preset = "character"', "preset = 3", 'preset = ["style"]'])
def test_a_preset_named_in_a_file_is_not_dropped(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.toml").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"preset.*command line.*--preset"):
        load_settings(tmp_path / "s.toml")


def test_the_reference_page_names_every_setting_and_preset() -> None:
    page = settings_page()
    for name, section in sections().items():
        part = page.partition(f"## [{name}]")[2].partition("\n## ")[0]
        for item in settings_of(section):
            assert f"| `{item.name}` |" in part, f"{name}.{item.name}"
    for name in preset_names():
        assert f"### {name}: " in page
