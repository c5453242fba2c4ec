"""The studio's API as OpenAPI, from which the pages' types are made.

python -m tools.studio_schema web/openapi.json
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from lorasmith.core.files import write_text
from lorasmith.studio.app import create_app


def schema() -> str:
    with tempfile.TemporaryDirectory() as workspace:
        described = create_app(Path(workspace)).openapi()
    # The version is the package's, and no type depends on it.
    described["info"]["version"] = ""
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), schema())
