"""Makes the two models: data, training, evaluation, export and publishing.

Nothing here imports `consumer`: the Triton model repository is the only interface between the two.
"""

import os

# ONNX Runtime's wheels report usage over the network unless told not to, and it must be told before the first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
