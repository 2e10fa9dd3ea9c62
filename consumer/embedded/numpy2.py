"""Lets the Python stub of tritonserver 2.51 work under numpy 2; appended to its `triton_python_backend_utils.py`.

The stub was built for numpy 1 and makes empty arrays under numpy 2, but Python 3.13 has no other. DLPack carries
tensors past the part of numpy that changed. Only the stub can import this.
"""

import ctypes
from typing import Any

import numpy as np
from c_python_backend_utils import Tensor as _Tensor  # type: ignore[import-not-found]

_NAME = b"dltensor"
_CPU = 1
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    """DLManagedTensor, with the DLTensor in it, as dlpack.h 0.8 lays it out."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
    )


#: What the stub's tensors borrow, by the address of what they were given, until they are done with it.
_lent: dict[int, tuple[Any, ...]] = {}
_give_back = _Deleter(lambda address: _lent.pop(address, None) and None)


def _capsule(array: np.ndarray) -> object:
    # numpy's own capsules would complain, for each tensor, of the name that the stub gives them
    values = np.ascontiguousarray(array)
    if values.dtype.kind not in _CODES:
        raise TypeError(f"under numpy 2 the embedded Triton answers numbers, not {values.dtype}")
    shape = (ctypes.c_int64 * values.ndim)(*values.shape)
    managed = _Managed(
        *(values.ctypes.data, _CPU, 0, values.ndim, _CODES[values.dtype.kind], 8 * values.itemsize, 1, shape),
        *(None, 0, None, _give_back),
    )
    address = ctypes.addressof(managed)
    _lent[address] = (managed, shape, values)
    return _new_capsule(address, _NAME, None)


_Tensor.as_numpy = lambda tensor: np.from_dlpack(tensor)  # noqa: PLW0108 - a builtin would not be bound
_Tensor.__new__ = lambda _type, name, array: _Tensor.from_dlpack(name, _capsule(array))
_Tensor.__init__ = lambda *_: None  # `__new__` has made it whole
