"""Changes sound inputs at random, gives them to a target, and keeps those that break it.

    python -m tests.fuzz.runner --seconds 60            every target, so long each
    python -m tests.fuzz.runner image --count 100000    one, so many inputs
    python -m tests.fuzz.runner image --atheris --seconds 600   guided by coverage, with atheris

A target breaks by raising anything, by taking more than two seconds of processor time, or by
letting the process grow by more than 200 MB, be it for a moment. What broke it is written to
``.fuzz/``. Seconds are of processor time; with both limits, the one that comes first counts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

from tests.fuzz.targets import TARGETS, Target

HANG_SECONDS = 2.0
GROWTH_BYTES = 200 << 20
LONGEST = 1 << 16
FINDINGS = Path(".fuzz")
TOKEN = re.compile(rb'"[^"\n]*"|[\w.+-]+')


class HangError(BaseException):
    """Not an Exception, so that no reader takes it for an error of its input."""


def changed(data: bytes, target: Target, corpus: list[bytes], draw: random.Random) -> bytes:
    """``data`` after one to six changes."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        at = draw.randrange(len(out) + 1)
        end = min(len(out), at + draw.choice((1, 2, 4, 8, 32, 256)))
        kind = draw.randrange(12)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << draw.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del out[at:end]
        elif kind == 3:
            out[at:at] = out[at:end] * draw.choice((1, 2, 3, 50))
        elif kind == 4:
            other = draw.choice(corpus)
            begin = draw.randrange(len(other) + 1)
            out[at:end] = other[begin : begin + draw.choice((4, 16, 64, 1024))]
        elif kind == 5 and target.words:
            out[at:at] = draw.choice(target.words)
        elif kind == 6 and target.words:
            out[at:end] = draw.choice(target.words) * draw.choice((1, 1, 2, 5))
        elif kind == 7:
            del out[at:]
        elif kind > 8 and (tokens := list(TOKEN.finditer(out))):
            # Whole words, so that what comes after the syntax is reached too.
            begin, end = draw.choice(tokens).span()
            others = TOKEN.findall(draw.choice(corpus))
            out[begin:end] = draw.choice((others or [b""], target.words or [b"9"])[kind == 9])
        else:
            out[at:at] = bytes(draw.randrange(256) for _ in range(draw.choice((1, 2, 4, 8))))
    return bytes(out[:LONGEST])


def inputs(name: str, seed: int) -> Iterator[bytes]:
    """First the corpus as it is, then its changes; the same ones for the same seed."""
    target = TARGETS[name]
    corpus = target.corpus()
    yield from corpus
    draw = random.Random(f"{name} {seed}")
    while True:
        yield changed(draw.choice(corpus), target, corpus, draw)


def broken_by(target: Target, data: bytes) -> str:
    """What is wrong with the target on this input, or ""."""

    def late(number: int, frame: FrameType | None) -> None:
        raise HangError

    # Time of this process alone: other work on the machine makes nothing hang.
    timed = hasattr(signal, "SIGPROF")
    if timed:
        signal.signal(signal.SIGPROF, late)
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    begin = time.process_time()
    try:
        target.run(data)
    except HangError:
        return f"more than {HANG_SECONDS:g} s\n{traceback.format_exc()}"
    except BaseException:  # noqa: BLE001 - whatever it is, is what is looked for
        return traceback.format_exc()
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - begin
    return f"{took:.1f} s" if took > HANG_SECONDS else ""


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def fuzz(
    name: str, *, count: int | None = None, seconds: float | None = None, seed: int = 0
) -> tuple[int, dict[str, bytes]]:
    """How many inputs were tried, and what broke the target by the last line of what it said."""
    target, findings, tried = TARGETS[name], {}, 0
    target.run(target.corpus()[0])
    begin, memory = time.process_time(), peak_memory()
    for data in inputs(name, seed):
        if tried == count or (seconds is not None and time.process_time() - begin > seconds):
            break
        tried += 1
        said = broken_by(target, data)
        grown = peak_memory() - memory
        if grown > GROWTH_BYTES:
            memory += grown
            said = said or f"grew by {grown >> 20} MB"
        if said:
            findings.setdefault(_signature(said), data)
    return tried, findings


def _signature(said: str) -> str:
    lines = said.strip().splitlines()
    places = [line.strip() for line in lines if line.strip().startswith("File ")]
    return f"{lines[-1][:200]} | {places[-1] if places else ''}"


def with_atheris(name: str, seconds: int) -> None:
    """Does not return."""
    import atheris

    target, corpus = TARGETS[name], FINDINGS / f"{name}.corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.corpus()):
        (corpus / f"sound-{number}").write_bytes(data)
    modules = [module for module in sys.modules if module.startswith("lorasmith.")]
    for module in modules:
        for value in list(vars(sys.modules[module]).values()):
            if callable(value) and getattr(value, "__module__", "") == module:
                atheris.instrument_func(value) if hasattr(value, "__code__") else None
    options = [f"-max_total_time={seconds}", f"-timeout={HANG_SECONDS:g}", str(corpus)]
    atheris.Setup([sys.argv[0], *options], lambda data: target.run(bytes(data)))
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, help="of processor time, for each target")
    parser.add_argument("--count", type=int, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--atheris", action="store_true", help="one target, guided by coverage")
    given = parser.parse_args()
    names = given.targets or list(TARGETS)
    if given.atheris:
        with_atheris(names[0], int(given.seconds or 60))
    seconds = given.seconds if given.seconds or given.count else 60.0
    bad = 0
    sys.stdout.write(f"seed {given.seed}\n")
    for name in names:
        begin = time.process_time()
        tried, findings = fuzz(name, count=given.count, seconds=seconds, seed=given.seed)
        took = time.process_time() - begin
        sys.stdout.write(f"{name:20} {tried:7} inputs {took:6.0f} s  {len(findings)} findings\n")
        sys.stdout.flush()
        for said, data in findings.items():
            bad += 1
            path = FINDINGS / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            sys.stdout.write(f"    {path}: {said}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
