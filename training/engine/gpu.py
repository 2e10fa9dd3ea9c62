"""The GPU, through the driver's own libraries: what it is, and memory on it. Nothing needs to be installed for that."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from training.errors import EngineError, ToolMissing

#: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of CUDA's driver API.
_CAPABILITY: Final = (75, 76)
_TEXT_BYTES: Final = 128
_NO_GPU: Final = "no NVIDIA GPU here: start the container with one (docker run --gpus, compose's profile gpu)"


@dataclass(frozen=True, slots=True)
class Gpu:
    """What an engine depends on besides TensorRT."""

    name: str
    #: Such as 9.0.
    capability: str
    #: Such as 580.65.06.
    driver: str

    @property
    def driver_branch(self) -> str:
        """What engines depend on of the driver's version."""
        return self.driver.split(".", maxsplit=1)[0]


def this_gpu() -> Gpu:
    """The GPU that TensorRT and Triton see first; CUDA_VISIBLE_DEVICES chooses it.

    Raises:
        ToolMissing: There is none, or its driver is not mounted here.
    """
    cuda, device = _opened()
    name = ctypes.create_string_buffer(_TEXT_BYTES)
    _checked(cuda.cuDeviceGetName(name, _TEXT_BYTES, device), "cuDeviceGetName")
    numbers = []
    for attribute in _CAPABILITY:
        number = ctypes.c_int()
        _checked(cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device), "cuDeviceGetAttribute")
        numbers.append(str(number.value))
    return Gpu(name.value.decode(), ".".join(numbers), _driver_version())


def _opened() -> tuple[ctypes.CDLL, ctypes.c_int]:
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise ToolMissing(_NO_GPU) from None
    device = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        raise ToolMissing(_NO_GPU)
    return cuda, device


def _driver_version() -> str:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        raise ToolMissing("libnvidia-ml.so.1 is missing: NVIDIA_DRIVER_CAPABILITIES must hold utility") from None
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    _checked(nvml.nvmlInit_v2(), "nvmlInit_v2")
    try:
        _checked(nvml.nvmlSystemGetDriverVersion(text, _TEXT_BYTES), "nvmlSystemGetDriverVersion")
    finally:
        nvml.nvmlShutdown()
    return text.value.decode()


def _checked(status: int, call: str) -> None:
    if status:
        raise EngineError(f"{call} failed with {status}")


class Memory:
    """Buffers and one stream on the GPU, in the context that TensorRT uses too."""

    def __init__(self, cuda: ctypes.CDLL) -> None:
        self._cuda = cuda
        self._buffers: list[ctypes.c_uint64] = []
        self._stream = ctypes.c_void_p()
        _checked(cuda.cuStreamCreate(ctypes.byref(self._stream), 0), "cuStreamCreate")

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return self._stream.value or 0

    def buffer(self, size_bytes: int) -> int:
        """The address of new memory."""
        address = ctypes.c_uint64()
        _checked(self._cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size_bytes)), "cuMemAlloc")
        self._buffers.append(address)
        return address.value

    def write(self, address: int, values: np.ndarray[Any, Any]) -> None:
        """Copies an array to the GPU."""
        source = np.ascontiguousarray(values)
        copied = self._cuda.cuMemcpyHtoD_v2(
            ctypes.c_uint64(address), ctypes.c_void_p(source.ctypes.data), ctypes.c_size_t(source.nbytes)
        )
        _checked(copied, "cuMemcpyHtoD")

    def read(self, address: int, into: np.ndarray[Any, Any]) -> None:
        """Fills an array from the GPU, once all that the stream holds is done."""
        self.wait()
        copied = self._cuda.cuMemcpyDtoH_v2(
            ctypes.c_void_p(into.ctypes.data), ctypes.c_uint64(address), ctypes.c_size_t(into.nbytes)
        )
        _checked(copied, "cuMemcpyDtoH")

    def wait(self) -> None:
        """Returns when all that the stream holds is done."""
        _checked(self._cuda.cuStreamSynchronize(self._stream), "cuStreamSynchronize")

    def close(self) -> None:
        """Gives everything back."""
        for address in self._buffers:
            self._cuda.cuMemFree_v2(address)
        self._cuda.cuStreamDestroy_v2(self._stream)


@contextmanager
def memory() -> Iterator[Memory]:
    """Memory on the GPU that is given back at the end.

    Yields:
        The memory.

    Raises:
        ToolMissing: There is no GPU.
    """
    cuda, device = _opened()
    context = ctypes.c_void_p()
    _checked(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    try:
        _checked(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")
        made = Memory(cuda)
        try:
            yield made
        finally:
            made.close()
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)
