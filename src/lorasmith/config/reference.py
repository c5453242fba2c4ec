"""The reference page of all settings, in Markdown, made from their definitions."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from lorasmith.config.dump import toml_value
from lorasmith.config.fields import NONE, Setting, settings_of
from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.config.presets import preset_names, read_preset
from lorasmith.config.sample_prompts import SamplePrompt
from lorasmith.config.schema import sections
from lorasmith.config.sections.data import FolderSettings

INTRODUCTION = """\
# Settings

<!-- Made by `lorasmith docs settings` from the definitions in src/lorasmith/config. -->

All settings of `lorasmith train`, with their ranges, their defaults and the reason of each default.
They can be given in four ways; later ones win:

1. the defaults below;
2. a preset, `--preset character` ([list](#presets));
3. a settings file, `lorasmith train run.toml`;
4. the command line: `--set optimizer.lr=5e-5`, or the same as an option, `--optimizer.lr 5e-5`.

```toml
model = "sd15.safetensors"        # short for [model] path = …; data has the same short form
data = "pictures"

[adapter]
rank = 32
alpha = 16

[optimizer]
unet_lr = 1e-4
text_encoder_lr = 5e-5
```

- A setting that is unknown, of the wrong kind or out of range is an error, and all errors are shown
  at once. Nothing is ignored.
- `"none"` means "not set" for settings that may be so; it undoes what a preset or a file has set.
- Paths are relative to the folder in which the command is run; `~` is the home folder.
- A run's folder holds its `settings.toml` with every value as it was used:
  `lorasmith train runs/NAME/settings.toml` repeats the run.
"""


def settings_page() -> str:
    """The whole page; equal definitions give equal text."""
    parts = [INTRODUCTION]
    for name, section in sections().items():
        parts.append(
            f"## [{name}]\n\n{inspect.getdoc(section)}\n\n{_table(settings_of(section, name))}"
        )
        if name == "data":
            about = inspect.getdoc(FolderSettings)
            parts.append(
                f"### [[data.folders]]\n\n{about}\n\n{_table(settings_of(FolderSettings))}"
            )
        if name == "sample":
            about = " ".join((inspect.getdoc(SamplePrompt) or "").split())
            parts.append(
                f"### [[sample.prompts]]\n\n{about}\n\n{_table(settings_of(SamplePrompt))}"
            )
        if name == "optimizer":
            parts.append(_optimizers())
    parts.append(_presets())
    return "\n".join(parts)


def _table(settings: Iterable[Setting]) -> str:
    rows = ["| setting | what it is | value | default, and why |", "|---|---|---|---|"]
    for item in settings:
        value = ", ".join(f"`{choice}`" for choice in item.choices) if item.choices else item.kind
        if item.choices and item.kind.endswith(("auto", "find")) and len(item.choices) == 1:
            value = item.kind
        value += f", {item.range}" if item.range else ""
        value += f" ({item.unit})" if item.unit else ""
        cells = (f"`{item.name}`", item.description, value, f"{_default(item)}: {item.why}")
        rows.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _default(item: Setting) -> str:
    if item.required:
        return "required"
    if item.default is None:
        return NONE
    return f"`{toml_value(item.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _optimizers() -> str:
    rows = ["| optimizer | what it is | args |", "|---|---|---|"]
    for name, facts in OPTIMIZERS.items():
        args = ", ".join(f"`{arg}`" for arg in facts.args or ())
        rows.append(f"| `{name}` | {facts.summary} | {args} |")
    return "### Optimizers and their args\n\n" + "\n".join(rows) + "\n"


def _presets() -> str:
    parts = [
        "## Presets\n\n`lorasmith presets NAME` prints one, as a start for a file of your own.\n"
    ]
    for name in preset_names():
        preset = read_preset(name)
        parts.append(f"### {name}: {preset.title}\n\n{preset.explains.strip()}\n")
    return "\n".join(parts)
