"""A verb is defined once: its request, its function and its command have the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lorasmith import api
from lorasmith.advice.bootstrap.bootstrap import bootstrap
from lorasmith.advice.doctor.doctor import doctor
from lorasmith.advice.pick import pick
from lorasmith.cli.main import cli
from lorasmith.core.errors import SettingsError
from lorasmith.curation.token_counts import tokenize_texts
from lorasmith.jobs.bootstrap import BootstrapRequest
from lorasmith.jobs.dataset.captioning import CaptionRequest
from lorasmith.jobs.dataset.captions import CaptionsRequest, EditRequest
from lorasmith.jobs.dataset.changes import HistoryRequest, RedoRequest, UndoRequest
from lorasmith.jobs.dataset.check import CheckRequest, PreviewRequest
from lorasmith.jobs.dataset.export import ExportRequest
from lorasmith.jobs.dataset.files import (
    GatherRequest,
    ImportPicturesRequest,
    InitRequest,
    RenameRequest,
)
from lorasmith.jobs.dataset.images import (
    ConvertPicturesRequest,
    CropRequest,
    FlipRequest,
    MasksRequest,
    ResizePicturesRequest,
    SplitRequest,
)
from lorasmith.jobs.dataset.regularize import RegularizeRequest
from lorasmith.jobs.dataset.sorting import DedupeRequest, SortRequest
from lorasmith.jobs.dataset.stats import StatsRequest, TokensRequest
from lorasmith.jobs.dataset.tagging import TagRequest
from lorasmith.jobs.generate import GenerateRequest
from lorasmith.jobs.grid import GridRequest
from lorasmith.jobs.lora_files import (
    BakeRequest,
    ConvertRequest,
    ExtractRequest,
    InspectRequest,
    MergeRequest,
    ResizeRequest,
)
from lorasmith.jobs.request import JobRequest, option_name, run
from lorasmith.jobs.settings import ImportRequest
from lorasmith.jobs.tensorboard import TensorBoardRequest
from lorasmith.jobs.training import DoctorRequest, PickRequest, TrainRequest
from lorasmith.jobs.workspace.bug_report import ReportBugRequest
from lorasmith.jobs.workspace.status import StatusRequest
from lorasmith.lora_tools.bake.bake import bake
from lorasmith.lora_tools.convert.convert import convert
from lorasmith.lora_tools.extract import extract
from lorasmith.lora_tools.inspect.inspect import inspect as inspect_file
from lorasmith.lora_tools.merge import merge
from lorasmith.lora_tools.resize import resize

FUNCTIONS: dict[type[JobRequest], Callable[..., Any]] = {
    BakeRequest: bake,
    BootstrapRequest: bootstrap,
    CheckRequest: api.check,
    ConvertRequest: convert,
    DoctorRequest: doctor,
    ExtractRequest: extract,
    ImportRequest: api.import_settings,
    InspectRequest: inspect_file,
    MergeRequest: merge,
    PickRequest: pick,
    PreviewRequest: api.preview,
    ResizeRequest: resize,
    TokensRequest: tokenize_texts,
}
DATASET: list[type[JobRequest]] = [
    CaptionRequest,
    CaptionsRequest,
    ConvertPicturesRequest,
    CropRequest,
    DedupeRequest,
    EditRequest,
    ExportRequest,
    FlipRequest,
    GatherRequest,
    HistoryRequest,
    ImportPicturesRequest,
    InitRequest,
    MasksRequest,
    RedoRequest,
    RegularizeRequest,
    RenameRequest,
    ResizePicturesRequest,
    SortRequest,
    SplitRequest,
    StatsRequest,
    TagRequest,
    UndoRequest,
]
ALL = [
    *FUNCTIONS,
    *DATASET,
    GenerateRequest,
    GridRequest,
    ReportBugRequest,
    StatusRequest,
    TensorBoardRequest,
]


@pytest.mark.parametrize("request_type", FUNCTIONS, ids=lambda each: each.verb)
def test_fields_are_the_functions_keywords(request_type: type[JobRequest]) -> None:
    """With their defaults, so that a verb does the same whoever asks for it."""
    parameters = dict(inspect.signature(FUNCTIONS[request_type]).parameters)
    for name in ("observer", "controls"):
        parameters.pop(name, None)
    fields = request_type.model_fields
    assert set(parameters) == set(fields)
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert fields[name].is_required(), name
        else:
            default = fields[name].default
            same = list(default) if isinstance(default, list) else default
            given = parameter.default
            given = list(given) if isinstance(given, tuple) else given
            assert str(given) == str(same), name


@pytest.mark.parametrize("request_type", ALL, ids=lambda each: each.verb)
def test_every_field_is_an_option_of_the_command(request_type: type[JobRequest]) -> None:
    command: click.Command = cli
    for word in request_type.verb.split():
        assert isinstance(command, click.Group)
        child = command.get_command(click.Context(command), word)
        assert child is not None
        command = child
    help_text = CliRunner().invoke(cli, [*request_type.verb.split(), "--help"]).output
    for field in request_type.model_fields:
        assert option_name(request_type, field) in help_text


@pytest.mark.parametrize("request_type", ALL, ids=lambda each: each.verb)
def test_a_request_goes_through_json(request_type: type[JobRequest]) -> None:
    required = {
        name: ["a"] if "list" in str(field.annotation) else "a"
        for name, field in request_type.model_fields.items()
        if field.is_required()
    }
    request = request_type.read(required)
    assert request_type.model_validate_json(request.model_dump_json()) == request


def test_all_mistakes_are_told_at_once_under_the_options_names() -> None:
    arguments = ["resize", "a", "b", "--rank", "many", "--retain", "1,5", "--precision", "fp61"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    for text in (
        "--rank: 'many' is not a whole number",
        "--retain: '1,5' is not a number",
        "--precision: 'fp61' is not known",
        "did you mean fp16?",
    ):
        assert text in result.stderr


def test_the_library_names_fields() -> None:
    with pytest.raises(SettingsError) as info:
        CheckRequest.read({"folders": ["images"], "batch": 0, "colour": "red"})
    assert {problem.where for problem in info.value.problems} == {"batch", "colour"}


def test_arguments_of_sd_scripts_stand_alone() -> None:
    request = TrainRequest(preset="demo", settings=["train.seed=1"], arguments=["--plan"])
    with pytest.raises(SettingsError) as info:
        run(request)
    assert [problem.where for problem in info.value.problems] == ["preset", "settings"]
