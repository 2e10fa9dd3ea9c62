"""The contract of the served models, read from their Triton configuration: the only interface to training. Pure.

`triton/inference.py` reads the configuration, this module checks it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consumer.errors import ContractMismatch
from consumer.events import Pixels

RESIZE_RULE: Final = "short-side-center-crop"
NO_LOGO: Final = "no_logo"
#: A version of tags has three digits for each model's version.
MAX_MODEL_VERSION: Final = 999
#: Of a parameter that is a whole number.
_MOST_DIGITS: Final = 9
QUALITY_LEVELS: Final = ("1", "2", "3", "4", "5")
#: The output in which a model may say under which contract it answers: INT64 [1], `contract_id`.
CONTRACT_OUTPUT: Final = "contract_id"
#: Pixels: a photo of this size takes 3 MiB for as long as it waits for its scores.
MAX_SHORT_SIDE: Final = 1024
_CHANNELS: Final = 3


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model as Triton describes it: the parts of its configuration that belong to the contract."""

    name: str
    version: str
    input_type: str
    input_dims: tuple[int, ...]
    output_dims: Mapping[str, tuple[int, ...]]
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The short side of a photo is resized to `resize_short_side`, then the central `input_size`² is cut out."""

    #: Pixels of the square that the model takes.
    input_size: int
    #: Pixels of the short side before the cut.
    resize_short_side: int

    def __str__(self) -> str:
        return f"{self.input_size}² from a short side of {self.resize_short_side}"


#: A photo as the models see it, once for each geometry: uint8 [input_size, input_size, 3] RGB, C-contiguous, upright.
Views = Mapping[Geometry, Pixels]


@dataclass(frozen=True, slots=True)
class ModelContract:
    """Both models together: geometries, labels, and the thresholds of the served versions."""

    quality_model: str
    quality_version: str
    quality_geometry: Geometry
    good_threshold: float
    brand_model: str
    brand_version: str
    brand_geometry: Geometry
    brand_threshold: float
    #: Brand names in the order of `brand_probs`, `no_logo` last.
    brand_labels: tuple[str, ...]

    @property
    def models(self) -> dict[str, str]:
        """The served versions by model name."""
        return {self.quality_model: self.quality_version, self.brand_model: self.brand_version}

    @property
    def geometries(self) -> dict[str, Geometry]:
        """What each model sees of a photo, by model name."""
        return {self.quality_model: self.quality_geometry, self.brand_model: self.brand_geometry}

    @property
    def contract_ids(self) -> dict[str, int]:
        """What each model that says so answers under, by model name."""
        quality, brand = (QUALITY_LEVELS, self.quality_geometry), (self.brand_labels, self.brand_geometry)
        return {self.quality_model: contract_id(*quality), self.brand_model: contract_id(*brand)}

    @property
    def pixel_bytes(self) -> int:
        """What a prepared photo takes: its pixels for each distinct geometry."""
        return sum(geometry.input_size**2 * _CHANNELS for geometry in set(self.geometries.values()))


def read(quality: ServedModel, brand: ServedModel) -> ModelContract:
    """The contract of two served models.

    Raises:
        ContractMismatch: a parameter is missing, beyond its bounds, or contradicts the tensors; the message names the
            model and what differs.
    """
    for model in (quality, brand):
        if not (
            model.version.isdecimal() and len(model.version) <= _MOST_DIGITS and int(model.version) <= MAX_MODEL_VERSION
        ):
            raise ContractMismatch(f"{model.name}: version {model.version} is outside 1..{MAX_MODEL_VERSION}")
    if quality.output_dims.get("quality_score", (1,)) != (1,):
        raise ContractMismatch(f"{quality.name}: output quality_score has shape {quality.output_dims['quality_score']}")
    levels = _labels(quality, "quality_levels", "quality_score")
    if levels != QUALITY_LEVELS:
        raise ContractMismatch(f"{quality.name}: labels are {list(levels)}, expected {list(QUALITY_LEVELS)}")
    labels = _labels(brand, "brand_probs")
    if labels[-1] != NO_LOGO or len(set(labels)) != len(labels):
        raise ContractMismatch(f"{brand.name}: labels must be distinct and end with {NO_LOGO}, they are {list(labels)}")
    return ModelContract(
        quality_model=quality.name,
        quality_version=quality.version,
        quality_geometry=_geometry(quality),
        good_threshold=_decision(quality, "good_threshold"),
        brand_model=brand.name,
        brand_version=brand.version,
        brand_geometry=_geometry(brand),
        brand_threshold=_decision(brand, "threshold"),
        brand_labels=labels,
    )


def differences(before: ModelContract, now: ModelContract) -> str:
    """What of the models is another in `now`, for an operator: `photo_quality: version 1 is now 3; ...`.

    Not the thresholds: a release has its own.
    """
    pairs = [
        (f"{before.quality_model}: version", before.quality_version, now.quality_version),
        (f"{before.brand_model}: version", before.brand_version, now.brand_version),
        (f"{before.quality_model}: input", before.quality_geometry, now.quality_geometry),
        (f"{before.brand_model}: input", before.brand_geometry, now.brand_geometry),
        ("number of labels", len(before.brand_labels), len(now.brand_labels)),
        ("label_checksum", label_checksum(before.brand_labels), label_checksum(now.brand_labels)),
    ]
    return "; ".join(f"{name} {old} is now {new}" for name, old, new in pairs if old != new)


def label_checksum(labels: Sequence[str]) -> str:
    """SHA-256 over the labels, one per line, without a final newline."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()


def contract_id(labels: Sequence[str], geometry: Geometry) -> int:
    """The number that stands for labels in their order and a geometry: what an answer does not show otherwise.

    The first 8 bytes, little-endian and signed, of the SHA-256 of `<label_checksum> <input_size> <resize_short_side>`.
    """
    text = f"{label_checksum(labels)} {geometry.input_size} {geometry.resize_short_side}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def _geometry(model: ServedModel) -> Geometry:
    rule = _parameter(model, "resize_rule")
    if rule != RESIZE_RULE:
        raise ContractMismatch(f"{model.name}: resize_rule is {rule!r}, this service knows {RESIZE_RULE!r}")
    size, short_side = _integer(model, "input_size"), _integer(model, "resize_short_side")
    if not 0 < size <= short_side <= MAX_SHORT_SIDE:
        raise ContractMismatch(
            f"{model.name}: input_size {size} must be 1..resize_short_side ({short_side}), and that at most "
            f"{MAX_SHORT_SIDE}: publish the model with a smaller input"
        )
    if model.input_type != "UINT8" or model.input_dims != (size, size, _CHANNELS):
        raise ContractMismatch(
            f"{model.name}: input is {model.input_type} {list(model.input_dims)}, expected UINT8 "
            f"{[size, size, _CHANNELS]} from its parameter input_size"
        )
    return Geometry(size, short_side)


def _labels(model: ServedModel, output: str, *others: str) -> tuple[str, ...]:
    missing = {output, *others} - model.output_dims.keys()
    if missing:
        raise ContractMismatch(f"{model.name}: no output {sorted(missing)}, it has {sorted(model.output_dims)}")
    labels = _json(model, "labels")
    if not isinstance(labels, list) or not labels or not all(_is_name(label) for label in labels):
        raise ContractMismatch(f"{model.name}: parameter labels must be a JSON list of names")
    if model.output_dims[output] != (len(labels),):
        raise ContractMismatch(
            f"{model.name}: {len(labels)} labels, but output {output} has shape {list(model.output_dims[output])}"
        )
    checksum = _parameter(model, "label_checksum")
    if checksum != label_checksum(labels):
        raise ContractMismatch(
            f"{model.name}: label_checksum is {checksum}, its labels give {label_checksum(labels)}: "
            "the labels were changed after publishing, publish the model again"
        )
    return tuple(labels)


def _is_name(label: object) -> bool:
    """Whether a label is a text that can be published; JSON may hold half a surrogate pair."""
    return isinstance(label, str) and label != "" and not any("\ud800" <= character <= "\udfff" for character in label)


def _decision(model: ServedModel, name: str) -> float:
    decision = _json(model, f"decision.{model.version}")
    value = decision.get(name) if isinstance(decision, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ContractMismatch(f"{model.name}: decision.{model.version} has no {name} between 0 and 1: {decision!r}")
    return float(value)


def _json(model: ServedModel, name: str) -> Any:  # noqa: ANN401 - JSON is any value, each caller checks its own
    try:
        return json.loads(_parameter(model, name))
    except (ValueError, RecursionError) as error:  # ValueError also for a number of too many digits
        raise ContractMismatch(f"{model.name}: parameter {name} is not JSON: {error}") from None


def _integer(model: ServedModel, name: str) -> int:
    text = _parameter(model, name)
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise ContractMismatch(f"{model.name}: parameter {name} is {text[:20]!r}, expected a whole number")
    return int(text)


def _parameter(model: ServedModel, name: str) -> str:
    if name not in model.parameters:
        raise ContractMismatch(
            f"{model.name} version {model.version}: parameter {name} is missing from its configuration; "
            "publish it with photo-trainer"
        )
    return model.parameters[name]
