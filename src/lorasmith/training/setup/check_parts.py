"""Settings that name something elsewhere: files, an optimizer, prompts, a part of the model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from lorasmith.config.sample_prompts import RANDOM_SEED
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, collect_problems
from lorasmith.core.files import check_writable, nearest_existing
from lorasmith.models.families.table import check_clip_skip
from lorasmith.models.open import OpenedCheckpoint
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.request import check_values
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.samples import sample_request
from lorasmith.training.setup.check_optimizer import check_optimizer


def check_parts(settings: TrainSettings, problems: list[Problem]) -> None:
    """Collect what is wrong with settings that no other check opens: optimizer, folder, files and
    sample prompts."""
    collect_problems(
        problems, lambda: check_optimizer(settings.optimizer.name, settings.optimizer.args)
    )
    # The folder itself is made by the run.
    output = nearest_existing(settings.save.output)
    collect_problems(problems, lambda: check_writable(output))
    collect_problems(problems, lambda: kind_of(settings).check_files(settings))
    for number, prompt in enumerate(settings.sample.prompts):
        request = sample_request(settings.sample, prompt, number)
        for text in (request.prompt, request.negative):
            parsed = collect_problems(problems, partial(parse_prompt, text))
            if parsed is not None and parsed.loras:
                what = f"<lora:{parsed.loras[0].name}> stands in a sample prompt"
                hint = "remove it: samples show the LoRA in training alone"
                problems.append(Problem("sample.prompts", what, hint))
        problems += [
            replace(problem, where=f"sample.prompts: {problem.where}")
            for problem in check_values(request)
            if not (problem.where == "seed" and request.seed == RANDOM_SEED)
        ]


def check_against_model(
    settings: TrainSettings, checkpoint: OpenedCheckpoint, problems: list[Problem]
) -> None:
    """Collect what is wrong with settings that name something of the model: layers and blocks, and
    how many layers of the text encoder are left out.

    Args:
        checkpoint: the headers of its file, which are enough for that.
        problems: what is found is put behind these.
    """
    architecture, skip = checkpoint.architecture, settings.model.clip_skip
    collect_problems(problems, lambda: kind_of(settings).check_model(settings, checkpoint))
    collect_problems(problems, lambda: check_clip_skip(architecture, skip, "model.clip_skip"))
    for prompt in settings.sample.prompts:
        if not isinstance(prompt, str) and prompt.clip_skip:
            where, its = "sample.prompts: clip_skip", prompt.clip_skip
            collect_problems(problems, partial(check_clip_skip, architecture, its, where))
