"""What a run or a version is made with: the commit, Python and the packages."""

import platform
import shutil
import subprocess
from importlib.metadata import version as installed
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "openvino")


def git_commit(folder: Path) -> str | None:
    """The commit checked out where `folder` lies, or None outside a repository or before its first commit."""
    git = shutil.which("git")
    if git is None:
        return None
    asked = subprocess.run([git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return asked.stdout.strip() if asked.returncode == 0 else None


def environment() -> dict[str, str]:
    """What a version is exported and checked with."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: installed(name) for name in _PACKAGES},
    }
