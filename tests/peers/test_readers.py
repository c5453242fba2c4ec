"""The table of readers is what other programs' own loaders do with files made here.

Opt-in, since it needs checkouts: ``LORASMITH_PEERS=folder pytest tests/peers``; CONTRIBUTING.md
says which. Programs that are not in the folder are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorasmith.lora_tools.inspect import compatibility
from lorasmith.lora_tools.inspect.compatibility import form_of
from lorasmith.lora_tools.lora_file import read_modules
from tests.peers.lora_forms import FAMILIES, FORMS, write_forms

PEERS = os.environ.get("LORASMITH_PEERS")
FOLDERS = {
    "AUTOMATIC1111": ("stable-diffusion-webui", "stable-diffusion-webui-amdgpu"),
    "Forge": ("stable-diffusion-webui-forge",),
    "ComfyUI": ("ComfyUI",),
    "sd-scripts": ("sd-scripts",),
    "lycoris-lora": ("LyCORIS",),
}
RUN = Path(__file__).with_name("reader_run.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PEERS is None, reason="LORASMITH_PEERS names no folder of checkouts"),
]


@pytest.fixture(scope="module", params=list(FAMILIES))
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all forms for a family."""
    folder = tmp_path_factory.mktemp(request.param)
    write_forms(request.param, folder, list(FORMS))
    return folder


def test_every_file_is_of_the_form_that_it_is_called_after(files: Path) -> None:
    assert set(FORMS) == set(compatibility.FORMS) == set(compatibility.VERDICTS)
    for form in FORMS:
        modules = read_modules(files / f"{form}.safetensors").modules.values()
        forms = {form_of(module.algorithm, module.tensors) for module in modules}
        # Nothing in a file tells rsLoRA.
        assert forms - {"full"} <= {form, form.removesuffix(" rs")}, form


@pytest.mark.parametrize("reader", list(FOLDERS))
def test_it_does_what_the_table_says(files: Path, reader: str) -> None:
    there = [Path(PEERS or "") / name for name in FOLDERS[reader]]
    checkout = next((folder for folder in there if folder.is_dir()), None)
    if checkout is None:
        pytest.skip(f"no checkout {FOLDERS[reader][0]} in {PEERS}")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(RUN), reader, str(checkout), str(files), *FORMS],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    verdicts = {form: result["verdict"] for form, result in found.items()}
    said = {form: compatibility.VERDICTS[form][reader] for form in FORMS}
    # "partly" is said where layers of one family are left out, and the other may be whole.
    differ = {
        form: found[form]
        for form in FORMS
        if verdicts[form] != said[form] and (said[form], verdicts[form]) != ("partly", "exact")
    }
    assert not differ, json.dumps(differ, indent=1)
