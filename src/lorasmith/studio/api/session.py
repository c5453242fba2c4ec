"""What the pages ask first, and about the computer: folders, devices, disk, memory."""

from __future__ import annotations

import os
import shutil

from fastapi import APIRouter
from pydantic import BaseModel

from lorasmith import __version__
from lorasmith.studio.context import Studio, StudioDep

router = APIRouter(prefix="/api", tags=["session"])


class Root(BaseModel):
    name: str
    path: str


class Device(BaseModel):
    """What can train: ``device`` as settings name it; ``memory`` in bytes, 0 where not known."""

    device: str
    name: str
    memory: int


class Session(BaseModel):
    """``writable``: whether anything can be made in the workspace."""

    version: str
    workspace: str
    roots: list[Root]
    devices: list[Device]
    writable: bool


class Disk(BaseModel):
    """Of the workspace, bytes."""

    free: int
    total: int


class DeviceMemory(BaseModel):
    device: str
    name: str
    free: int
    total: int


class Memory(BaseModel):
    """Bytes; ``process`` is what the server itself takes."""

    free: int
    total: int
    process: int
    devices: list[DeviceMemory]


@router.get("/session")
def get_session(studio: StudioDep) -> Session:
    return Session(
        version=__version__,
        workspace=str(studio.workspace),
        roots=[Root(name=path.name or str(path), path=str(path)) for path in studio.roots.folders],
        devices=_devices(studio),
        writable=os.access(studio.workspace, os.W_OK | os.X_OK),
    )


@router.get("/disk")
def get_disk(studio: StudioDep) -> Disk:
    usage = shutil.disk_usage(studio.workspace)
    return Disk(free=usage.free, total=usage.total)


@router.get("/memory")
def get_memory(studio: StudioDep) -> Memory:
    import psutil

    memory = psutil.virtual_memory()
    return Memory(
        free=memory.available,
        total=memory.total,
        process=psutil.Process().memory_info().rss,
        devices=_device_memory(studio),
    )


def _devices(studio: Studio) -> list[Device]:
    """Of NVIDIA's cards, as their driver tells of them; the processor is always there."""
    cards = [Device(device=c.device, name=c.name, memory=c.total) for c in _device_memory(studio)]
    return [*cards, Device(device="cpu", name="processor", memory=0)]


def _device_memory(studio: Studio) -> list[DeviceMemory]:
    return [
        DeviceMemory(
            device=f"cuda:{number}", name=card.name, free=card.free or 0, total=card.total or 0
        )
        for number, card in enumerate(studio.cards.cards())
    ]
