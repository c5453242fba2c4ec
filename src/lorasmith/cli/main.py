"""The ``lorasmith`` command: a table of commands, each imported only when it is called.

This is the one place that turns exceptions into messages and exit statuses:

====  =========================================================
0     done
1     a bug of ours: a traceback, and where to report it
2     the user's to mend: every problem with what to do about it
130   stopped by the user
====  =========================================================

Neither torch nor pydantic is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lorasmith import __version__
from lorasmith.core.errors import DOCTOR, Problem, Stopped, UserError
from lorasmith.core.terminal import echo, echo_styled, problem_lines
from lorasmith.core.text import did_you_mean

if TYPE_CHECKING:
    from lorasmith.core.job_record import JobRecord

DONE, BUG, USER_ERROR, STOPPED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: the module that has it under its own name, and its line in
    ``lorasmith --help``."""

    module: str
    summary: str


GROUPS: dict[str, dict[str, Entry]] = {
    "Begin": {
        "doctor": Entry("lorasmith.cli.doctor", "Say whether this computer can make LoRAs."),
        "report-bug": Entry(
            "lorasmith.cli.report_bug", "Put what a bug report needs into a zip, without pictures."
        ),
        "demo": Entry("lorasmith.cli.demo", "See it work: train on the model inside the package."),
        "studio": Entry("lorasmith.cli.studio", "Do it all in a browser, on this computer."),
        "status": Entry("lorasmith.cli.status", "Say how far a project is, and what comes next."),
        "presets": Entry("lorasmith.cli.presets", "List the presets, or show what is in one."),
        "dataset": Entry("lorasmith.cli.dataset", "Look after a folder of training pictures."),
    },
    "Train": {
        "train": Entry("lorasmith.cli.train", "Train a LoRA on a folder of pictures."),
        "control": Entry("lorasmith.cli.control", "Ask a running training for something."),
        "tensorboard": Entry(
            "lorasmith.cli.tensorboard", "Show the curves of runs in TensorBoard."
        ),
        "queue": Entry("lorasmith.cli.queue", "Let trainings and other work wait their turn."),
        "runs": Entry("lorasmith.cli.runs", "List runs, give them other names, or remove them."),
        "advise": Entry("lorasmith.cli.advise", "Propose settings, each with its reason."),
        "pick": Entry("lorasmith.cli.pick", "Say which snapshot of a run to keep."),
        "bootstrap": Entry("lorasmith.cli.bootstrap", "Make a LoRA of a subject from one picture."),
        "diagnose": Entry("lorasmith.cli.diagnose", "Say what is wrong with a LoRA, and why."),
    },
    "Draw": {
        "generate": Entry("lorasmith.cli.generate", "Draw pictures, with LoRAs in the prompt."),
        "grid": Entry(
            "lorasmith.cli.grid", "Compare epochs, strengths, seeds, models … in a grid."
        ),
        "votes": Entry("lorasmith.cli.votes", "Say which pictures of a grid were liked better."),
        "tokens": Entry("lorasmith.cli.tokens", "Count the tokens of prompts and captions."),
    },
    "LoRA files": {
        "inspect": Entry("lorasmith.cli.inspect", "Say what a LoRA or a checkpoint is."),
        "resize": Entry("lorasmith.cli.lora_files", "Give a LoRA lower ranks, at the least error."),
        "merge": Entry("lorasmith.cli.lora_files", "Put several LoRAs into one file."),
        "extract": Entry(
            "lorasmith.cli.lora_files", "Make a LoRA from the difference of two models."
        ),
        "bake": Entry("lorasmith.cli.lora_files", "Write a checkpoint with LoRAs in it."),
        "convert": Entry(
            "lorasmith.cli.lora_files", "Other names or precision, .ckpt to .safetensors."
        ),
    },
    "From other trainers": {
        "train-network": Entry("lorasmith.cli.train_network", "Train with sd-scripts' arguments."),
        "sdxl-train-network": Entry("lorasmith.cli.train_network", "The same for SDXL."),
        "convert-config": Entry(
            "lorasmith.cli.convert_config", "Convert another trainer's settings."
        ),
    },
    "For developers": {
        "docs": Entry("lorasmith.cli.docs", "Write the reference pages of the documentation."),
    },
}
"""What `lorasmith --help` shows, in this order."""

COMMANDS = {name: entry for group in GROUPS.values() for name, entry in group.items()}


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them.

    Args:
        groups: commands under the headings of ``--help``.
    """

    def __init__(self, *args: Any, groups: dict[str, dict[str, Entry]], **more: Any) -> None:
        super().__init__(*args, **more)
        self._groups = groups
        self._entries = {name: entry for group in groups.values() for name, entry in group.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._entries:
            return None
        module = importlib.import_module(self._entries[cmd_name].module)
        name = cmd_name.replace("-", "_")
        command = getattr(module, f"{name}_" if iskeyword(name) else name)
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._entries))
        for title, commands in self._groups.items():
            with formatter.section(title):
                rows = [(name.ljust(width), entry.summary) for name, entry in commands.items()]
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._entries and not name.startswith("-"):
            hint = did_you_mean(
                name, self._entries.keys(), f"there are {', '.join(self._entries)}", form="{!r}"
            )
            raise click.UsageError(f"No such command {name!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        """Run a command and leave with its exit status."""
        prog_name = prog_name or "lorasmith"
        _quiet_libraries()
        if f"_{prog_name.upper()}_COMPLETE" in os.environ:  # The shell asks what Tab may insert.
            super().main(args, prog_name, complete_var)
        extra.pop("standalone_mode", None)
        record = _job_record()
        if record is not None:
            record.print_what_can_be()
        status, problems = self._run(list(sys.argv[1:] if args is None else args), prog_name, extra)
        if record is not None:
            record.end(status, problems)
        sys.exit(status)

    def _run(
        self, args: list[str], prog_name: str, extra: dict[str, Any]
    ) -> tuple[int, list[Problem]]:
        """The exit status, and what was told of what went wrong."""
        try:
            with self.make_context(prog_name, args, **extra) as ctx:
                self.invoke(ctx)
            sys.stdout.flush()
            return DONE, []
        except click.exceptions.Exit as leave:
            return leave.exit_code, []
        except SystemExit as leave:  # Of a command that has told what is wrong.
            return leave.code if isinstance(leave.code, int) else BUG, []
        except UserError as error:
            echo_styled(problem_lines(error.problems), err=True)
            return USER_ERROR, error.problems
        except click.ClickException as error:
            if isinstance(error, click.BadParameter) and (hint := _hint(error.message)):
                words = f"{error.message.rstrip('.')}: {hint}."
                error = click.BadParameter(words, error.ctx, error.param, error.param_hint)
            message = io.StringIO()
            error.show(message)
            echo(message.getvalue(), end="", err=True)
            return USER_ERROR, [Problem("", error.format_message())]
        except (Stopped, click.Abort, KeyboardInterrupt) as error:
            echo(str(error) or "stopped", err=True)
            return STOPPED, [Problem("", str(error) or "stopped")]
        except BrokenPipeError:  # Whoever read our output went away, as `| head` does.
            _print_no_more()
            return STOPPED, []
        except Exception as error:  # noqa: BLE001 - the last resort: a bug of ours, or no memory
            if lacks_memory(error):
                echo_styled(problem_lines([NO_MEMORY]), err=True)
                return USER_ERROR, [NO_MEMORY]
            from lorasmith.core.disk import is_full

            if is_full(error):
                _print_no_more()
                echo_styled(problem_lines([FULL_DISK]), err=True)
                return USER_ERROR, [FULL_DISK]
            if problem := machine_problem(error):
                echo_styled(problem_lines([problem]), err=True)
                return USER_ERROR, [problem]
            _say_bug(args)
            what = f"a bug in lorasmith: {type(error).__name__}: {error}"
            return BUG, [Problem("", what, "report it, with what stands in its log")]


def _print_no_more() -> None:
    """Python flushes standard output again at exit, which would fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


FULL_DISK = Problem("", "the disk is full", f"free some space, and run it again; {DOCTOR}")


def _job_record() -> JobRecord | None:
    """What is to hear how a job of the queue ends."""
    if "LORASMITH_JOB" not in os.environ:  # As always but there: nothing is imported for it.
        return None
    from lorasmith.core import job_record

    return job_record.current()


def _hint(message: str) -> str:
    """What to write in place of what click says is no number."""
    from lorasmith.core.text import number_hint

    match = re.match(r"'(.*)' is not a valid (float|integer)", message, re.DOTALL)
    return number_hint(match[1], whole=match[2] == "integer") if match else ""


NO_MEMORY = Problem(
    "",
    "there is not enough memory for this",
    "close other programs, lift the limit on memory (ulimit -v), or choose smaller sizes; "
    f"docs/low-memory.md says how to train with less; {DOCTOR}",
)
# How libraries say so in errors of no kind of their own: torch on a CPU and on a device, the
# loader of shared libraries, threads without room for their stack.
_MEMORY_WORDS = re.compile(
    r"not enough memory|out of memory|cannot allocate memory|can't allocate memory"
    r"|failed to map segment|can't start new thread|bad_alloc|unable to mmap|mmap failed",
    re.IGNORECASE,
)


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that the system gave no memory."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        plain = isinstance(error, RuntimeError | OSError | ImportError)
        if plain and _MEMORY_WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


# Faults of the driver, the card or an installed library, as PyTorch and the system's loader say it.
_MACHINE_WORDS = re.compile(
    r"no kernel image is available|driver version is insufficient|NVIDIA driver on your system"
    r"|Found no NVIDIA driver|driver initialization failed|CUDA unknown error"
    r"|no CUDA-capable device|(CUDNN|CUBLAS)_STATUS_(NOT_INITIALIZED|ARCH_MISMATCH)"
    r"|invalid device function|system not yet initialized|not compiled with CUDA|DLL load failed"
    r"|undefined symbol|cannot open shared object file|Numpy is not available",
    re.IGNORECASE,
)


def machine_problem(error: BaseException | None) -> Problem | None:
    """What the computer, not lorasmith, is to blame for: a driver or a card that PyTorch cannot
    use, a package that is missing or does not load."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        lines = str(error).strip().splitlines() or [""]
        if isinstance(error, ImportError) and not (error.name or "").startswith("lorasmith"):
            what = f"{error.name or 'a package'} cannot be imported: {lines[0]}"
            return Problem("", what, f"install it, or lorasmith and what it needs, again; {DOCTOR}")
        plain = isinstance(error, RuntimeError | OSError | AssertionError)
        if plain and (match := _MACHINE_WORDS.search(str(error))):
            line = next(line for line in lines if match[0] in line)
            return Problem("", f"this computer cannot do it: {line.strip()}", DOCTOR)
        error = error.__cause__  # Not the context: many imports are tried, and may fail.
    return None


def _quiet_libraries() -> None:
    """Keep advice that libraries give to developers off the user's terminal."""
    # bitsandbytes misses an optional kernel of the CPU whenever it is imported, used or not.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def _say_bug(args: Sequence[str]) -> None:
    echo(traceback.format_exc(), err=True)
    echo(
        f"This is a bug in lorasmith {__version__}. Please report it where you have it from,\n"
        "with the lines above, what `lorasmith doctor --json` prints, and the command that you "
        f"gave:\n  lorasmith {shlex.join(args)}",
        err=True,
    )


@click.group(
    "lorasmith",
    cls=LazyGroup,
    groups=GROUPS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`lorasmith COMMAND --help` says more about each. Start with `lorasmith demo`.",
)
@click.version_option(__version__, "--version", "-V", prog_name="lorasmith")
def cli() -> None:
    """Make a LoRA for Stable Diffusion: check the pictures, train, and see what it learned."""


def main() -> NoReturn:
    """The console script, and ``python -m lorasmith``."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets "?" for it, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.platform == "win32":
        # Intel's Fortran runtime, which SciPy of conda brings, else ends Python at Ctrl-C itself.
        os.environ.setdefault("FOR_DISABLE_CONSOLE_CTRL_HANDLER", "1")
    if sys.platform == "darwin":
        # Few operations have nothing for Apple GPUs; PyTorch, which reads this as it is imported,
        # then takes the CPU for them, and warns.
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    # Importing torch makes some 200 000 objects that stay; Python would look through them for
    # cycles after every 700, a tenth of what a short command takes.
    gc.set_threshold(10_000)
    # And twice more as it ends, when the system takes everything anyway: a second after a training.
    atexit.register(gc.freeze)
    cli.main(prog_name="lorasmith")
