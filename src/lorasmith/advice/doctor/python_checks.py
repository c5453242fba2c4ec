"""Checks of Python and of the packages that are installed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath

from lorasmith.advice.doctor.computer import Computer, Package
from lorasmith.advice.doctor.finding import Check, Finding
from lorasmith.core.text import quantity, word_list
from lorasmith.core.torch_builds import Version

OLDEST, NEWEST = (3, 11), (3, 14)
"""The Pythons that lorasmith and PyTorch are made for."""

# What an extra of pyproject.toml gives.
EXTRAS = {
    "cuda": "8-bit optimizers, and NF4 weights that are unpacked quicker",
    "optimizers": "a catalogue of 128 more optimizers",
    "gather": "pictures from sites, by `lorasmith dataset gather`",
    "faces": "crops around faces, and the audit's rules about them",
    "studio": "pages in a browser, by `lorasmith studio`",
    "audit": "the audit's rules about text, watermarks and pictures unlike all others",
}

WRONG_IN_PATH = "LD_PRELOAD"
HIDES_MODULES = ("PYTHONPATH", "PYTHONHOME")


def _python(computer: Computer) -> Finding:
    python = computer.python
    text = ".".join(map(str, python.version))
    if python.bits != 64:
        what = f"{text} of 32 bits, and PyTorch has only builds for 64"
        return Finding(
            "broken", what, "install the 64-bit Python: https://www.python.org/downloads"
        )
    if python.translated:
        what = f"{text} built for Intel, translated by Rosetta: PyTorch has no GPU there"
        mend = (
            "brew install python@3.12 && python3.12 -m venv .venv  # not in a terminal of Rosetta"
        )
        return Finding("broken", what, mend)
    version: Version = python.version[:2]
    if version < OLDEST:
        what = f"{text}, and lorasmith needs {_dotted(OLDEST)} or newer"
        return Finding("broken", what, f"python{_dotted(OLDEST)} -m venv .venv")
    if version > NEWEST and "torch" not in computer.packages:
        what = f"{text}, for which there may be no PyTorch"
        return Finding("broken", what, f"python{_dotted(NEWEST)} -m venv .venv")
    untried = version > NEWEST
    return Finding("ok", f"{text}{', newer than what was tried' if untried else ''}")


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _environment(computer: Computer) -> Finding:
    python = computer.python
    kinds = {"venv": "a virtual environment", "conda": "a conda environment"}
    if python.environment in kinds:
        return Finding("ok", f"{kinds[python.environment]}, {python.executable}")
    what = f"the system's own, {python.executable}: other programs change its packages, too"
    return Finding("ok", what)


def _command(computer: Computer) -> Finding:
    python = computer.python
    module = "python -m lorasmith"
    if not python.command:
        what = f"no `lorasmith` on the PATH; it lies in {python.scripts}"
        return Finding("not there", what, f"{module}  # or activate the environment")
    if python.launcher:
        return Finding("ok", f"{python.command}, which leads to this Python")
    folder = _parent(python.command, windows=computer.windows)
    if not _same(folder, python.scripts, windows=computer.windows):
        what = f"a shell runs {python.command}, which is of another Python than this"
        return Finding("not there", what, f"{module}  # or activate the environment")
    return Finding("ok", python.command)


def _parent(path: str, *, windows: bool) -> str:
    return str((PureWindowsPath if windows else PurePosixPath)(path).parent)


def _same(one: str, other: str, *, windows: bool) -> bool:
    if windows:
        return PureWindowsPath(one) == PureWindowsPath(other)  # Without regard to case.
    return PurePosixPath(one) == PurePosixPath(other)


def _copies(computer: Computer) -> Finding | None:
    """Packages that are installed twice, where the versions differ: one hides the other."""
    hidden = {
        name: package.copies
        for name, package in computer.packages.items()
        if len({version for version, _ in package.copies}) > 1
    }
    if not computer.packages:
        return None
    torch = computer.torch
    places = {place for _, place in computer.packages.get("torch", Package("")).copies}
    if torch is not None and torch.folder and places and torch.folder not in places:
        what = f"PyTorch comes from {torch.folder}, not from where it is installed: "
        what += word_list(sorted(places))
        line = "set PYTHONPATH=" if computer.windows else "unset PYTHONPATH"
        return Finding("broken", what, line)
    if not hidden:
        return Finding("ok", f"each of {len(computer.packages)} packages once")
    # PyTorch first, since most others are built for one of it.
    names = sorted(hidden, key=lambda name: (name != "torch", name))
    shown = []
    for name in names[:3]:
        (version, place), *others = hidden[name]
        rest = word_list([f"{one} in {where}" for one, where in others])
        shown.append(f"{name} {version} in {place} hides {rest}")
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    places = {place for name in names for _, place in hidden[name]}
    what = "; ".join(shown) + more
    if computer.python.user_site and computer.python.user_site in places:
        line = "set PYTHONNOUSERSITE=1" if computer.windows else "export PYTHONNOUSERSITE=1"
        return Finding("broken", what, line)
    if "PYTHONPATH" in computer.environment:
        line = "set PYTHONPATH=" if computer.windows else "unset PYTHONPATH"
        return Finding("broken", what, line)
    packages = " ".join(names)
    pip = computer.python.pip
    yes = "" if pip.startswith("uv") else "-y "
    line = f"{pip} uninstall {yes}{packages}  # once for each copy; then install it once"
    return Finding("broken", what, line)


def _variables(computer: Computer) -> Finding:
    """Variables that make Python or the system's linker find other files than those installed."""
    names = [name for name in HIDES_MODULES if computer.environment.get(name)]
    libraries = computer.environment.get("LD_LIBRARY_PATH", "").lower()
    if any(word in libraries for word in ("cuda", "cudnn", "tensorrt")):
        # PyTorch brings its own; a system's cuDNN before it is the classic clash.
        names.append("LD_LIBRARY_PATH")
    unset = "\n".join(f"set {n}=" if computer.windows else f"unset {n}" for n in names)
    if computer.environment.get("PYTHONHOME"):
        what = f"PYTHONHOME={computer.environment['PYTHONHOME']}: Python takes its library there"
        return Finding("broken", what, unset.splitlines()[names.index("PYTHONHOME")])
    if not names:
        return Finding("ok", "none that hides a package or a library")
    what = ", ".join(f"{name}={computer.environment[name]}" for name in names)
    if computer.torch_problem:
        return Finding("broken", f"{what}: files there come before those installed", unset)
    return Finding("ok", f"{what}: files there come before those installed")


def _needs(computer: Computer) -> Finding:
    """lorasmith's own requirements."""
    pip = computer.python.pip
    if not computer.installed:
        what = "lorasmith is run from its source: what it needs is not known to Python"
        return Finding("not there", what, f"{pip} install -e .")
    unmet = [one for one in computer.unmet if one.of == "lorasmith"]
    if not unmet:
        return Finding("ok", f"all {len(computer.needs)} that lorasmith needs are there")
    shown = [
        f"{one.requirement} ({f'{one.installed} is installed' if one.installed else 'missing'})"
        for one in unmet
    ]
    names = " ".join(f'"{one.requirement}"' for one in unmet)
    return Finding("broken", ", ".join(shown), f"{pip} install --upgrade {names}")


def _clashes(computer: Computer) -> Finding:
    """Packages that ask for other versions of each other than are there."""
    unmet = [one for one in computer.unmet if one.of != "lorasmith"]
    if not unmet:
        count = quantity(len(computer.packages), "package")
        return Finding("ok", f"none: {count} have what they ask of each other")
    shown = [
        f"{one.of} {computer.version(one.of)} needs {one.requirement}, "
        + (f"and {one.installed} is installed" if one.installed else "which is missing")
        for one in unmet[:4]
    ]
    more = f"; and {len(unmet) - 4} more" if len(unmet) > 4 else ""
    return Finding("broken", "; ".join(shown) + more, _unclash(computer))


def _unclash(computer: Computer) -> str:
    """The first clash's line: a package that lorasmith has no need of goes, another is renewed."""
    pip = computer.python.pip
    first = next(one for one in computer.unmet if one.of != "lorasmith")
    if not first.installed:
        return f'{pip} install "{first.requirement}"'
    if first.of == "xformers":
        # Made for exactly one PyTorch each; lorasmith takes PyTorch's own attention.
        return f"{pip} uninstall {'' if pip.startswith('uv') else '-y '}xformers"
    return f"{pip} install --upgrade {first.of}"


def _numpy(computer: Computer) -> Finding | None:
    if computer.torch is None:
        return None
    problem = computer.torch.numpy_problem
    if not problem:
        return Finding("ok", f"PyTorch shares its memory (numpy {computer.version('numpy')})")
    what = f"PyTorch cannot use numpy {computer.version('numpy')}: {problem}"
    requirement = computer.needs.get("numpy", "numpy>=2.1")
    return Finding("broken", what, f'{computer.python.pip} install --upgrade "{requirement}"')


def _libraries(computer: Computer) -> Finding | None:
    if computer.torch is None:
        return None
    if not computer.libraries:
        return Finding("ok", "all can be imported")
    shown = [f"{name}: {why}" for name, why in computer.libraries.items()]
    names = [_distribution(name, why) for name, why in computer.libraries.items()]
    packages = " ".join(dict.fromkeys(name for name in names if name))
    line = f"{computer.python.pip} install --upgrade {packages}"
    return Finding("broken", "; ".join(shown), line)


def _distribution(module: str, why: str) -> str:
    """Of a module that cannot be imported; protobuf's own complaint is about protobuf."""
    if "descriptors cannot be created" in why.lower() or "protobuf" in why.lower():
        return "protobuf tensorboard"
    return {"torch.utils.tensorboard": "tensorboard"}.get(module, module.partition(".")[0])


def _extra(computer: Computer, name: str) -> Finding:
    gives = EXTRAS[name]
    packages = computer.extras.get(name, {})
    missing = [text for package, text in packages.items() if package not in computer.packages]
    if packages and not missing:
        versions = ", ".join(f"{package} {computer.version(package)}" for package in packages)
        return Finding("ok", f"{versions}: {gives}")
    if name == "cuda" and not (computer.nvidia.sign or computer.amd):
        return Finding("not needed", f"{gives}: on an NVIDIA or AMD card")
    return Finding("not there", f"would give {gives}", extra_line(computer, name, missing))


def extra_line(computer: Computer, name: str, missing: Sequence[str] = ()) -> str:
    """The line that adds an extra to this installation."""
    texts = missing or list(computer.extras.get(name, {}).values())
    return computer.installation.extra_line(name, texts)


CHECKS = (
    Check("version", "Python", _python),
    Check("environment", "Python", _environment),
    Check("command", "Python", _command),
    Check("variables", "Python", _variables),
    Check("copies", "Packages", _copies),
    Check("requirements", "Packages", _needs),
    Check("clashes", "Packages", _clashes),
    Check("numpy", "Packages", _numpy),
    Check("libraries", "Packages", _libraries),
    *(Check(f"extra {name}", "Packages", partial(_extra, name=name)) for name in EXTRAS),
)
