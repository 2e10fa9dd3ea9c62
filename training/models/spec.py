"""The tensors and labels of a served model, equal in all of its versions."""

import hashlib
from dataclasses import dataclass

from training.data.sets import INPUT_PX


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The contract of a model's versions; another input, output or label list needs another model."""

    name: str
    #: Name and width of each output; all are TYPE_FP32.
    outputs: tuple[tuple[str, int], ...]
    #: The output that the labels describe.
    labelled: str
    labels: tuple[str, ...]
    input_px: int = INPUT_PX

    @property
    def label_checksum(self) -> str:
        """SHA-256 of the labels, one per line; consumers check it against their own list."""
        return hashlib.sha256("\n".join(self.labels).encode()).hexdigest()
