"""Sample prompts: sd-scripts' files of one prompt a line, or of TOML or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.config.sample_prompts import (
    RANDOM_SEED,
    has_options,
    like_options,
    read_line,
)
from lorasmith.config.schema import all_settings
from lorasmith.core.errors import SettingsError
from lorasmith.core.files import parse_json, parse_toml
from lorasmith.core.rng import MAX_SEED
from lorasmith.importers.named_files import named_path
from lorasmith.importers.sd_scripts.argument import ConversionBuilder

SAMPLERS = {
    "ddim": "ddim", "ddpm": "ddim", "pndm": "plms", "lms": "lms", "heun": "heun",
    "euler": "euler", "euler_a": "euler_a", "dpm_2": "dpm2", "dpm_2_a": "dpm2_a",
    "dpmsolver": "dpmpp_2m", "dpmsolver++": "dpmpp_2m", "dpmsingle": "dpmpp_2m",
}  # fmt: skip
"""sd-scripts' samplers; it takes a ``k_`` before most of them."""

# Not the same method, but the nearest of those that are here.
_NEAREST = ("ddpm", "dpmsolver", "dpmsingle")

# What sd-scripts draws with where a prompt does not say.
DEFAULTS: dict[str, Any] = {
    "negative_prompt": "",
    "width": 512,
    "height": 512,
    "sample_steps": 30,
    "scale": 7.5,
    "seed": None,
}

_THEIR_NAMES = {
    "negative": "negative_prompt",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "steps": "sample_steps",
    "cfg": "scale",
    "sampler": "sample_sampler",
}
UNREAD = "unread options"


def samples(m: ConversionBuilder) -> None:
    epochs, steps = m.value("sample_every_n_epochs"), m.value("sample_every_n_steps")
    has_times = bool(epochs and epochs > 0) or bool(steps and steps > 0) or m.has("sample_at_first")
    if not has_times or not m.has("sample_prompts"):
        m.take("sample_every_n_epochs", None)
        m.take("sample_at_first", False)
        for name in ("sample_every_n_epochs", "sample_every_n_steps", "sample_at_first"):
            if m.value(name):
                m.drop(name, "nothing is drawn without --sample_prompts; so it is in sd-scripts")
        m.drop("sample_prompts", "nothing says when to draw them; so it is in sd-scripts")
        m.drop("sample_sampler", "nothing is drawn")
        return
    m.take("sample_every_n_epochs", epochs if epochs and epochs > 0 else None)
    if steps and steps > 0 and not (epochs and epochs > 0):
        m.take("sample_every_n_steps", steps)
    else:
        m.drop("sample_every_n_steps", "--sample_every_n_epochs decides; so it is in sd-scripts")
    m.take("sample_at_first", m.has("sample_at_first"))
    sampler, note = sampler_of(str(m.value("sample_sampler")))
    m.take("sample_sampler", sampler, note=note)
    if note:
        m.note(m.shown("sample_sampler"), note)
    _prompts(m)


def sampler_of(name: str) -> tuple[str, str]:
    """The sampler here, and a note where it is not the same one.

    What sd-scripts does not know, it draws with ddim.
    """
    plain = name.strip().lower().replace(" ", "_").removeprefix("k_")
    if plain in SAMPLERS:
        note = f"the nearest sampler is {SAMPLERS[plain]}" if plain in _NEAREST else ""
        return SAMPLERS[plain], note
    if plain in all_settings()["sample.sampler"].choices:
        return plain, f"sd-scripts does not know {name} and draws with ddim; here there is one"
    known = ", ".join(SAMPLERS)
    return "ddim", f"sd-scripts does not know {name} and draws with ddim; it has {known}"


def _prompts(m: ConversionBuilder) -> None:
    text = str(m.value("sample_prompts"))
    is_content = m.given["sample_prompts"].is_content
    try:
        path = "the text" if is_content else named_path(text)
        prompts = prompts_of(text) if isinstance(path, str) else read_prompts(path)
    except SettingsError as error:
        for problem in error.problems:
            m.refuse("sample_prompts", f"{problem.where}: {problem.what}", problem.hint)
        return
    except OSError:
        m.note(
            m.shown("sample_prompts"),
            f"{path} cannot be read, so nothing is drawn while training; so it is in sd-scripts",
        )
        for name in [each for each in m.result.settings if each.startswith("sample.")]:
            del m.result.settings[name]
        m.take("sample_every_n_epochs", None)
        m.take("sample_at_first", False)
        return
    except ValueError as error:
        m.refuse("sample_prompts", f"{path}: {error}", "correct it")
        return
    if not prompts:
        m.refuse("sample_prompts", f"{path} holds no prompt", "write one a line")
        return
    _say_odd(m, prompts)
    settings = [_settings_of(m, each) for each in prompts]
    shared = _shared(settings)
    m.take("sample_prompts", [_entry(each, shared) for each in settings])
    side = [shared.get(name, DEFAULTS[name]) for name in ("width", "height")]
    values = {
        "negative": shared.get("negative", ""),
        "steps": shared.get("steps", DEFAULTS["sample_steps"]),
        "cfg": shared.get("cfg", DEFAULTS["scale"]),
        "size": side[0] if side[0] == side[1] else side,
    }
    if "seed" in shared:
        values["seed"] = shared["seed"]
    for name, value in values.items():
        m.put(f"sample.{name}", value, "sample_prompts")


def _say_odd(m: ConversionBuilder, prompts: list[dict[str, Any]]) -> None:
    """What of the prompts is not done, and what is probably not meant."""
    for each in prompts:
        for shown, why in each.pop(UNREAD, ()):
            m.note(shown, f"in the prompt {each.get('prompt', '')!r}: {why}")
        for text in like_options(str(each.get("prompt", ""))):
            m.note(text, "is drawn as words of the prompt, as in sd-scripts: options have --")
        if not str(each.get("prompt", "")).strip():
            m.note(m.shown("sample_prompts"), "a line holds options and no prompt")


def _settings_of(m: ConversionBuilder, each: Mapping[str, Any]) -> dict[str, Any]:
    """One prompt of sd-scripts, its defaults filled in, as settings of ours."""
    options = {**DEFAULTS, **{name: value for name, value in each.items() if value is not None}}
    settings: dict[str, Any] = {
        "prompt": str(options.get("prompt", "")).strip(),
        "negative": str(options["negative_prompt"] or ""),
        "width": _within(m, "width", int(options["width"]) // 8 * 8, 64, 4096),
        "height": _within(m, "height", int(options["height"]) // 8 * 8, 64, 4096),
        "steps": _within(m, "sample_steps", int(options["sample_steps"]), 1, 500),
        "cfg": _within(m, "scale", float(options["scale"]), 1, 50),
    }
    if options["seed"] is not None:
        seed = int(options["seed"])
        settings["seed"] = RANDOM_SEED if seed < 0 else seed % (MAX_SEED + 1)
        if seed > MAX_SEED:
            why = f"is above {MAX_SEED}, the largest seed here: {settings['seed']} is taken"
            m.note(f"a prompt's seed {str(seed)[:40]}", why)
    if "sample_sampler" in options:
        name = str(options["sample_sampler"])
        settings["sampler"], note = sampler_of(name)
        if note:
            m.note(f"--ss {name}", note)
    return settings


def _within(m: ConversionBuilder, name: str, value: float, low: int, high: int) -> float:
    inside = min(max(value, low), high)
    if inside != value:
        m.note(f"a prompt's {name} {value:g}", f"is out of range here: {inside:g} is taken")
    return inside


def _shared(settings: list[dict[str, Any]]) -> dict[str, Any]:
    """What all prompts have in common; of seeds, that of a single prompt, as those of [sample] go
    up from prompt to prompt."""
    first = settings[0]
    return {
        name: value
        for name, value in first.items()
        if name not in ("prompt", "sampler")
        and all(name in each and each[name] == value for each in settings)
        and not (name == "seed" and (len(settings) > 1 or value == RANDOM_SEED))
    }


def _entry(settings: dict[str, Any], shared: Mapping[str, Any]) -> str | dict[str, Any]:
    """The prompt, and what it does not share with all others and with sd-scripts' defaults."""
    usual = {"negative": "", "width": DEFAULTS["width"], "height": DEFAULTS["height"]}
    usual |= {"steps": DEFAULTS["sample_steps"], "cfg": DEFAULTS["scale"]}
    own = {
        name: value
        for name, value in settings.items()
        if name == "prompt" or (name not in shared and value != usual.get(name))
    }
    # A prompt whose words would be taken for options needs a table.
    plain = len(own) == 1 and not has_options(own["prompt"])
    return own["prompt"] if plain else own


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The prompts of a file, each with what it says of itself under sd-scripts' names.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML or JSON, as its name says, or holds no prompts.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return prompts_of(text, path.suffix.lower())


def prompts_of(text: str, suffix: str = ".txt") -> list[dict[str, Any]]:
    """:func:`read_prompts` for what a file of this suffix holds."""
    if suffix == ".json":
        content = parse_json(text)
    elif suffix == ".toml":
        table = parse_toml(text)
        shared = table.get("prompt", {})
        subsets = shared.pop("subset", None) if isinstance(shared, dict) else None
        if not isinstance(subsets, list | None) or not all(
            isinstance(each, dict) for each in subsets or []
        ):
            raise ValueError(
                "holds a prompt.subset that is no list of tables: write [[prompt.subset]]"
            )
        content = [{**shared, **each} for each in subsets or []] or [shared]
    else:
        lines = (line.strip() for line in text.splitlines())
        content = [prompt_line(line) for line in lines if line and not line.startswith("#")]
    if isinstance(content, list):
        content = [prompt_line(each) if isinstance(each, str) else each for each in content]
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise ValueError("is not a list of prompts")
    try:
        for each in content:
            for name in ("width", "height", "sample_steps", "seed", "scale"):
                if each.get(name) is not None:
                    each[name] = float(each[name]) if name == "scale" else int(each[name])
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"a prompt's {name} is not a number") from error
    return content


def prompt_line(text: str) -> dict[str, Any]:
    """``a cat --n dog --w 640 --s 20`` as a table, with what is not understood at ``UNREAD``."""
    line = read_line(text)
    return {
        "prompt": line.prompt,
        **{_THEIR_NAMES[name]: value for name, value in line.values.items()},
        UNREAD: [
            *((shown, f"{why}; it is left out") for shown, why in line.unread),
            *((shown, f"{value} is read of it, as in sd-scripts") for shown, value in line.cut),
        ],
    }
