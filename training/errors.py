"""Errors that a user of `photo-trainer` can mend; anything else is a bug and keeps its traceback."""


class TrainerError(Exception):
    """Base of everything that the command line prints as one line."""


class RecipeError(TrainerError):
    """A recipe names an unknown key, or a value that it must not have."""


class DataError(TrainerError):
    """The data cannot be used: nothing found, a broken list file, splits that leak."""


class Unreadable(DataError):
    """One photo that cannot be read; the text says why."""


class WeightsError(TrainerError):
    """Weights are missing, are not those that were asked for, or do not fit the network."""


class RunError(TrainerError):
    """A run's folder is missing, incomplete, or was made by another recipe."""


class ToolMissing(TrainerError):
    """An optional package is needed; the message names the extra that brings it."""


class GateRefused(TrainerError):
    """A version may not be published: it is worse than the one in service, or its variants disagree."""


class ExportError(TrainerError):
    """The exported graph does not do what the torch model does, or holds nodes that it must not hold."""


class PublishError(TrainerError):
    """The version cannot be published: it does not match the model's other versions, or somebody was faster."""
