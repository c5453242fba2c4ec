"""Where the pictures come from: art and photographs that lie in packages of npm and PyPI.

dicebear's lorelei and open-peeps are CC0, openmoji is CC BY-SA 4.0, scikit-image's photographs
are free; nothing of them is kept in the repository. All of it goes into a cache folder once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from lorasmith.data.images import open_image

NPM = [
    "@dicebear/core@9.4.3",
    "@dicebear/lorelei@9.4.3",
    "@dicebear/open-peeps@9.4.3",
    "@resvg/resvg-js@2.6.2",
    "openmoji@17.0.0",
]
PHOTOGRAPHS = "scikit-image==0.26.0"


class Packages:
    """The packages, installed in ``cache``: needs npm and pip where they are not there yet."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "node_modules" / "openmoji").is_dir():
            if shutil.which("npm") is None:
                raise SystemExit("npm is not here: install Node 18 or newer")
            command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *NPM]
            (cache / "package.json").write_text('{"private": true}')
            subprocess.run(command, cwd=cache, check=True)
        shutil.copy(Path(__file__).with_name("heads.mjs"), cache)
        if not (cache / "skimage" / "data").is_dir():
            with tempfile.TemporaryDirectory() as place:
                command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place]
                subprocess.run([*command, PHOTOGRAPHS], check=True)
                (wheel,) = Path(place).glob("*.whl")
                with zipfile.ZipFile(wheel) as archive:
                    names = [n for n in archive.namelist() if n.startswith("skimage/data/")]
                    archive.extractall(cache, names)

    def photograph(self, name: str) -> Image.Image:
        with open_image(self.cache / "skimage" / "data" / name) as image:
            return image.convert("RGB")

    def draw(self, items: list[dict[str, Any]]) -> list[Image.Image]:
        """Each item as an RGBA picture ``width`` px wide; one start of Node for all of them."""
        with tempfile.TemporaryDirectory() as place:
            for number, item in enumerate(items):
                item["file"] = f"{place}/{number}.png"
            listing = Path(place) / "items.json"
            listing.write_text(json.dumps(items), encoding="utf-8")
            subprocess.run(["node", "heads.mjs", str(listing)], cwd=self.cache, check=True)
            drawings = []
            for item in items:
                with open_image(Path(item["file"])) as image:
                    drawings.append(image.convert("RGBA"))
            return drawings
