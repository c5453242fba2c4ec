"""What a page asks about a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

DATASET = "zorp/dataset"
TAGS = ("zorp, standing", "zorp, hat, smile", "zorp, hat")


class Page:
    """Asks the studio about one dataset; ``status`` is what it must answer with."""

    def __init__(self, client: TestClient, path: str = DATASET) -> None:
        self.client, self.path = client, path

    def ask(self, method: str, address: str, status: int = 200, **values: Any) -> Any:
        query = {"path": self.path}
        body = {"json": values} if method != "GET" else {}
        query |= values if method == "GET" else {}
        answer = self.client.request(method, f"/api/dataset/{address}", params=query, **body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, address: str, status: int = 200, **values: Any) -> Any:
        return self.ask("GET", address, status, **values)

    def post(self, address: str, status: int = 200, **values: Any) -> Any:
        return self.ask("POST", address, status, **values)

    def put(self, address: str, status: int = 200, **values: Any) -> Any:
        return self.ask("PUT", address, status, **values)


def texts(folder: Path) -> list[str]:
    return [(folder / f"{number}.txt").read_text("utf-8").rstrip("\n") for number in range(3)]
