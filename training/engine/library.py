"""TensorRT as it is installed: the version of its library, and its Python bindings."""

import ctypes
from importlib import import_module
from typing import Any, Final

from training.errors import ToolMissing

#: Newest first. One code path serves them all.
_MAJORS: Final = (11, 10)
#: NVIDIA's own package, and the one that its bindings' wheel brings alone.
_MODULES: Final = ("tensorrt", "tensorrt_bindings")
_PARTS: Final = ("Major", "Minor", "Patch", "Build")


def library_version() -> str:
    """Version of the libnvinfer that Triton loads as well, such as 11.2.1.2. It needs neither bindings nor a GPU.

    Raises:
        ToolMissing: There is none.
    """
    for major in _MAJORS:
        try:
            library = ctypes.CDLL(f"libnvinfer.so.{major}")
        except OSError:
            continue
        return ".".join(str(getattr(library, f"getInferLib{part}Version")()) for part in _PARTS)
    wanted = " or ".join(f"libnvinfer.so.{major}" for major in _MAJORS)
    raise ToolMissing(f"no TensorRT here ({wanted}): run this inside Triton's image, deploy/triton.Dockerfile")


def bindings() -> Any:  # noqa: ANN401 - a module that is not installed where types are checked
    """TensorRT's Python module.

    Raises:
        ToolMissing: It is not installed, or is for another version than the library.
    """
    version = library_version()
    for name in _MODULES:
        try:
            module = import_module(name)
        except ImportError:
            continue
        if module.__version__ != version:
            raise ToolMissing(f"TensorRT's Python bindings are {module.__version__}, its library is {version}")
        return module
    raise ToolMissing(f"no Python bindings of TensorRT {version}: pip install tensorrt_cu13_bindings=={version}")


if __name__ == "__main__":
    print(library_version())  # noqa: T201 - deploy/triton.Dockerfile installs the bindings of this version
