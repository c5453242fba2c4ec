"""examples/lorasmith.ipynb: as it is stored, and run from top to bottom on the demo model."""

from __future__ import annotations

import ast
import base64
import importlib.util
import io
import itertools
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from PIL import Image
from tests.docs import test_docs

from lorasmith.demo.character import write_training_set

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "lorasmith.ipynb"
LITTLE = {
    "train.steps": 4, "adapter.rank": 4, "save.every_steps": 2, "sample.every_steps": 2,
    "sample.steps": 2, "sample.cfg": 1, "performance.threads": 1,
}  # fmt: skip
"""Settings of a training that takes seconds."""


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells() -> dict[str, str]:
    return {cell.id: cell.source for cell in notebook().cells if cell.cell_type == "code"}


def test_it_is_stored_without_outputs() -> None:
    stored = notebook()
    nbformat.validate(stored)
    for cell in stored.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        assert set(cell.metadata) <= {"tags"}, "no editor has left its traces"
    assert NOTEBOOK.read_text("utf-8") == nbformat.writes(stored) + "\n"


def test_its_cells_are_python_and_lead_from_one_to_the_next() -> None:
    """Each name is bound in its cell or in one above."""
    known = {*dir(__builtins__), *__builtins__, "display", "get_ipython"}  # type: ignore[misc]
    cells = code_cells()
    assert len(cells) > 8
    for name, source in cells.items():
        tree = ast.parse(TransformerManager().transform_cell(source), name)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        known |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            if isinstance(node, ast.FunctionDef):
                known |= {node.name, *(argument.arg for argument in node.args.args)}
        unknown = {node.id for node in names if isinstance(node.ctx, ast.Load)} - known
        assert not unknown, f"{name}: {unknown}"


def test_between_two_cells_of_code_stand_words() -> None:
    cells = [cell for cell in notebook().cells if cell.id != "import"]  # It ends what is above.
    kinds = [cell.cell_type for cell in cells]
    assert all(one != two for one, two in itertools.pairwise(kinds[1:]))


def test_the_commands_that_it_names_are_there() -> None:
    texts = [cell.source for cell in notebook().cells]
    lines = re.findall(r"!(lorasmith [^`\n]*)", "\n".join(texts))
    assert len(lines) >= 5
    for line in lines:
        line = re.sub(r'\{"--quick" if QUICK else ""\}', "--quick", line)
        test_docs.test_documented_commands_exist_with_their_options(NOTEBOOK.name, line)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment as a notebook's: all that lorasmith needs, and no lorasmith; what is
    installed comes on top. In it a kernel of its own, by the name "fresh"."""
    folder = tmp_path_factory.mktemp("notebook") / "environment"
    venv.create(folder, with_pip=False)
    there = folder / "what-is-there"
    there.mkdir()
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    for path in Path(str(spec.origin)).parents[1].iterdir():
        if "lorasmith" not in path.name and path.suffix != ".pth":
            (there / path.name).symlink_to(path)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "there.pth").write_text(f"{there}\n")
    kernel = folder / "kernels" / "fresh" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words = {"argv": command, "display_name": "fresh", "language": "python"}
    kernel.write_text(json.dumps(words))
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_what_wants_another_torch_is_not_installed(tmp_path: Path, environment: Path) -> None:
    """A wheel that takes one newer than any: the cell says so, and nothing has changed."""
    wheel = tmp_path / "wants-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: wants\nVersion: 1.0\nRequires-Dist: torch>=99\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("wants-1.0.dist-info/METADATA", metadata)
        archive.writestr("wants-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("wants-1.0.dist-info/RECORD", "")
    program = f"SOURCE = {str(wheel)!r}\n{code_cells()['install']}"
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [environment / "bin" / "python", "-c", program], env=outside | {"PIP_NO_INDEX": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "pip could not install it" in done.stderr
    assert "wants 1.0 depends on torch>=99" in done.stdout
    assert "(constraint)" in done.stdout
    (site,) = environment.glob("lib/python*/site-packages")
    assert not list(site.glob("wants*"))


PAGE = ROOT / "docs" / "notebooks.md"


@pytest.mark.slow
def test_the_programs_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_training_set(tmp_path / "pictures", images=3, regularisation=1, repeats=1)
    shown: list[str] = []

    def display(bundle: dict[str, str], **how: object) -> SimpleNamespace:
        shown.append(bundle["text/plain"])
        return SimpleNamespace(update=display)

    kernel = SimpleNamespace(kernel=object())
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: kernel)
    monkeypatch.setattr("IPython.display.display", display)
    names: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(program.replace('"demo",', '"demo", train__steps=2, sample__steps=2,'), names)
    assert shown[0] == "beginning"
    assert shown[-1].startswith("pictures: done, step 2 of 2")
    assert names["view"].folder == tmp_path / "runs" / "pictures"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_it_runs_from_top_to_bottom(
    tmp_path: Path, environment: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"SOURCE": str(wheel), "QUICK": True, "DRAWINGS": 2, "STRENGTHS": "1"}
    done = notebook()
    place = next(
        n for n, cell in enumerate(done.cells) if "parameters" in cell.metadata.get("tags", ())
    )
    lines = [f"{name} = {value!r}" for name, value in {**parameters, "MORE": LITTLE}.items()]
    for line in lines:
        assert re.search(rf"^{line.split()[0]} = ", done.cells[place].source, re.MULTILINE)
    done.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))

    # Where lorasmith is installed, and from where it is not.
    guard = f"import sys; assert sys.prefix == {str(environment)!r}"
    done.cells.insert(0, nbformat.v4.new_code_cell(guard))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PATH", f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_PATH", str(environment))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(done, timeout=600, kernel_name="fresh", resources=where).execute()

    cells = {cell.id: cell for cell in done.cells}
    assert text_of(cells["import"]).startswith("lorasmith 0.")
    assert "Nothing is broken" in text_of(cells["computer"])
    assert "12 pictures" in text_of(cells["pictures"])
    (view,) = [out for out in cells["train"].outputs if out.output_type == "display_data"]
    page = view.data["text/html"]
    assert "<b>zorp</b> · done · step 4 of 4" in page
    assert len(re.findall("before training", page)) == 2, "a row for each prompt"
    (chart,) = re.findall(r"data:image/png;base64,([^\"]+)", page)
    with Image.open(io.BytesIO(base64.b64decode(chart))) as image:
        assert image.getcolors(1 << 20), "something is drawn"
    (site,) = environment.glob("lib/python*/site-packages")
    added = {path.name.partition("-")[0] for path in site.glob("*.dist-info")}
    assert added == {"lorasmith"}, "all else is as it was"
    work = tmp_path / "lorasmith"
    (lora,) = (work / "zorp-result").glob("*.safetensors")
    assert lora.stat().st_size > 10_000
    assert (work / "zorp-result.zip").is_file()
    assert (work / "runs" / "zorp" / "grid" / "grid.html").is_file()


def text_of(cell: Any) -> str:
    return "".join(out.text for out in cell.outputs if out.output_type == "stream")
