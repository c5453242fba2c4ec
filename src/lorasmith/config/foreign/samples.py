"""Sample prompts: sd-scripts' files of one prompt a line, or of TOML or JSON."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from lorasmith.config.foreign.making import Making
from lorasmith.config.foreign.tables import user_path
from lorasmith.config.schema import all_settings

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

_OPTIONS = {
    "n": "negative_prompt",
    "w": "width",
    "h": "height",
    "d": "seed",
    "s": "sample_steps",
    "l": "scale",
    "ss": "sample_sampler",
}


def samples(m: Making) -> None:
    epochs, steps = m.value("sample_every_n_epochs"), m.value("sample_every_n_steps")
    asked = bool(epochs and epochs > 0) or bool(steps and steps > 0) or m.has("sample_at_first")
    if not asked or not m.has("sample_prompts"):
        m.put("sample.every_epochs", None, "sample_every_n_epochs")
        m.put("sample.at_start", False, "sample_at_first")
        for name in ("sample_every_n_epochs", "sample_every_n_steps", "sample_at_first"):
            if m.value(name):
                m.drop(name, "nothing is drawn without --sample_prompts; so it is in sd-scripts")
        m.drop("sample_prompts", "nothing says when to draw them; so it is in sd-scripts")
        m.drop("sample_sampler", "nothing is drawn")
        return
    m.put("sample.every_epochs", epochs if epochs and epochs > 0 else None, "sample_every_n_epochs")
    if steps and steps > 0 and not (epochs and epochs > 0):
        m.put("sample.every_steps", steps, "sample_every_n_steps")
    else:
        m.drop("sample_every_n_steps", "--sample_every_n_epochs decides; so it is in sd-scripts")
    m.put("sample.at_start", m.has("sample_at_first"), "sample_at_first")
    sampler, note = sampler_of(str(m.value("sample_sampler")))
    m.put("sample.sampler", sampler, "sample_sampler", note=note)
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


def _prompts(m: Making) -> None:
    text = str(m.value("sample_prompts"))
    is_content = m.given["sample_prompts"].is_content
    path = "the text" if is_content else user_path(text)
    try:
        prompts = prompts_of(text) if isinstance(path, str) else read_prompts(path)
    except OSError:
        m.note(
            m.shown("sample_prompts"),
            f"{path} cannot be read, so nothing is drawn while training; so it is in sd-scripts",
        )
        for name in [each for each in m.result.settings if each.startswith("sample.")]:
            del m.result.settings[name]
        m.put("sample.every_epochs", None, "sample_every_n_epochs")
        m.put("sample.at_start", False, "sample_at_first")
        return
    except ValueError as error:
        m.refuse("sample_prompts", f"{path}: {error}", "correct it")
        return
    if not prompts:
        m.refuse("sample_prompts", f"{path} holds no prompt", "write one a line")
        return
    m.put("sample.prompts", [str(each.get("prompt", "")) for each in prompts], "sample_prompts")
    first = {name: prompts[0].get(name, default) for name, default in DEFAULTS.items()}
    differing = sorted(
        name
        for name, default in DEFAULTS.items()
        if any(each.get(name, default) != first[name] for each in prompts)
    )
    if differing:
        m.note(
            m.shown("sample_prompts"),
            f"the prompts differ in {', '.join(differing)}; those of the first are taken for all",
        )
    side = [max(64, int(first[name]) // 8 * 8) for name in ("width", "height")]
    values = {
        "negative": str(first["negative_prompt"] or ""),
        "steps": int(first["sample_steps"]),
        "cfg": float(first["scale"]),
        "size": side[0] if side[0] == side[1] else side,
    }
    if first["seed"] is not None:
        values["seed"] = int(first["seed"])
    for name, value in values.items():
        m.put(f"sample.{name}", value, "sample_prompts")


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
        content = json.loads(text)
    elif suffix == ".toml":
        table = tomllib.loads(text)
        shared = table.get("prompt", {})
        subsets = shared.pop("subset", None) if isinstance(shared, dict) else None
        content = [{**shared, **each} for each in subsets or []] or [shared]
    else:
        lines = (line.strip() for line in text.splitlines())
        content = [prompt_line(line) for line in lines if line and not line.startswith("#")]
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


def prompt_line(line: str) -> dict[str, Any]:
    """``a cat --n dog --w 640 --s 20`` as a table."""
    text, *options = line.split(" --")
    found: dict[str, Any] = {"prompt": text.strip()}
    for option in options:
        match = re.fullmatch(r"(\w+)\s+(.+)", option.strip())
        if match and match[1].lower() in _OPTIONS:
            found[_OPTIONS[match[1].lower()]] = match[2].strip()
    return found
