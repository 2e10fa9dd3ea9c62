"""Errors that a user of `photo-trainer` can fix; anything else is a bug and keeps its traceback."""


class TrainerError(Exception):
    """Base of everything that the command line prints as one line."""


class RecipeError(TrainerError):
    """A recipe has an unknown key or an invalid value."""


class DataError(TrainerError):
    """The data cannot be used: nothing found, an invalid list file, splits that leak."""


class Unreadable(DataError):
    """A photo cannot be read; the message says why, and `kind` in words that many photos share, to count them by."""

    def __init__(self, reason: str, kind: str = "cannot be opened") -> None:
        super().__init__(reason)
        self.kind = kind


class WeightsError(TrainerError):
    """Weights are missing, have another hash, or do not fit the network."""


class RunError(TrainerError):
    """A run's folder is missing, incomplete or invalid."""


class ToolMissing(TrainerError):
    """An optional package, or a GPU, is missing; the message says what installs it."""


class GateRefused(TrainerError):
    """A version may not be published: it is worse than the published one, or its variants disagree."""


class ExportError(TrainerError):
    """The exported graph differs from the torch model, or has nodes that it must not have."""


class PublishError(TrainerError):
    """The version does not match the model's other versions, or another process published its number first."""


class EngineError(TrainerError):
    """An engine could not be built, or its file could not be written."""


class EngineUnfit(TrainerError):
    """An engine is missing, or was built for another GPU, driver, TensorRT or graph; the message says what to run."""
