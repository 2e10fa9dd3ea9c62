"""Names of the files of a published version, and how far the outputs of each may be from the float32 graph's.

Without torch and onnx: the builder of engines reads them inside the serving image.
"""

from typing import Final

MANIFEST: Final = "MANIFEST.json"
FP32_FILE: Final = "model.onnx"
FP16_FILE: Final = "model.fp16.onnx"
INT8_FILE: Final = "model.int8.onnx"
#: The engine that a GPU's machine builds from a graph; no file of a published version.
PLAN_FILE: Final = "model.plan"
#: Share of photos on which a variant must decide as torch does.
LEAST_AGREEMENT: Final = 0.995
#: Largest difference of any output from torch's, by file: weights of the first are rounded, the second is computed with
#: such numbers. int8 changes single probabilities a lot where two classes are close; its decisions count.
TOLERANCES: Final = {FP32_FILE: 1e-2, FP16_FILE: 2e-2, INT8_FILE: float("inf")}
