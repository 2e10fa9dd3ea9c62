"""The first bytes of a plan, which say which TensorRT wrote it; they can be read without TensorRT.

The layout is that of `printPlanVersion` in TensorRT's `samples/common/sampleEngines.cpp`.
"""

import struct
from typing import Final

from training.errors import EngineUnfit

#: The first word of every plan, little-endian: "ftrt" in the file.
MAGIC: Final = 0x74727466
HEADER_BYTES: Final = 28
_VERSION_AT: Final = 24


def plan_version(head: bytes) -> str:
    """Version of the TensorRT that wrote a plan, such as 11.2.1.2, of its first `HEADER_BYTES` bytes.

    Raises:
        EngineUnfit: They are not the beginning of a plan.
    """
    if len(head) < HEADER_BYTES:
        raise EngineUnfit(f"it is cut off after {len(head)} bytes")
    magic, zero = struct.unpack_from("<II", head)
    if (magic, zero) != (MAGIC, 0):
        raise EngineUnfit("it is no TensorRT plan")
    return ".".join(map(str, head[_VERSION_AT:HEADER_BYTES]))
