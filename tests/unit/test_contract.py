import hashlib
import json
from dataclasses import replace

import pytest

from consumer import contract
from consumer.contract import Geometry, ServedModel
from consumer.errors import ContractMismatch
from tests.fakes import BRANDS, served_models

PARAMETERS = ["input_size", "resize_rule", "resize_short_side", "labels", "label_checksum", "decision.1"]


def refusal(quality: ServedModel, brand: ServedModel) -> str:
    with pytest.raises(ContractMismatch) as caught:
        contract.read(quality, brand)
    return str(caught.value)


def labelled(labels: object) -> dict[str, str | None]:
    checksum = contract.label_checksum([str(label) for label in labels]) if isinstance(labels, list | tuple) else "0"
    return {"labels": json.dumps(labels), "label_checksum": checksum}


def seeing(model: ServedModel, geometry: Geometry) -> ServedModel:
    size, short_side = geometry.input_size, geometry.resize_short_side
    parameters = {**model.parameters, "input_size": str(size), "resize_short_side": str(short_side)}
    return replace(model, input_dims=(size, size, 3), parameters=parameters)


def test_models_that_fit_give_geometry_labels_versions_and_thresholds() -> None:
    agreed = contract.read(*served_models())
    assert agreed.geometries == dict.fromkeys(["photo_quality", "brand_logo"], Geometry(32, 32))
    assert agreed.brand_labels == BRANDS
    assert (agreed.good_threshold, agreed.brand_threshold) == (0.5, 0.6)
    assert agreed.models == {"photo_quality": "1", "brand_logo": "1"}


def test_the_decision_is_that_of_the_served_version() -> None:
    quality, brand = served_models(
        brand={"decision.1": '{"threshold": 0.1}', "decision.2": '{"threshold": 0.2, "temperature": 1.5}'}
    )
    assert contract.read(quality, replace(brand, version="2")).brand_threshold == 0.2


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_a_threshold_may_be_0_or_1(value: float) -> None:
    assert (
        contract.read(*served_models(brand={"decision.1": json.dumps({"threshold": value})})).brand_threshold == value
    )


def test_a_repository_of_more_outputs_and_parameters_is_read() -> None:
    quality, brand = served_models(quality={"colour": "blue"})
    more = replace(quality, output_dims={**quality.output_dims, "aesthetics": (1,)})
    assert contract.read(more, brand) == contract.read(quality, brand)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("model", ["quality", "brand"])
def test_a_missing_parameter_is_refused_by_its_name_and_its_models(model: str, name: str) -> None:
    quality, brand = served_models(**{model: {name: None}})
    text = refusal(quality, brand)
    assert name in text
    assert {"quality": "photo_quality", "brand": "brand_logo"}[model] in text


@pytest.mark.parametrize(
    "changes",
    [
        {"label_checksum": "0" * 64},
        {"label_checksum": contract.label_checksum(BRANDS) + "\n"},
        {"resize_rule": "stretch"},
        {"input_size": "0"},
        {"input_size": "-32"},
        {"input_size": "32.0"},
        {"input_size": "big"},
        {"input_size": "64"},
        {"resize_short_side": "31"},
        {"resize_short_side": ""},
        {"labels": "crimson,azure,no_logo"},
        labelled([]),
        labelled("crimson"),
        labelled({"crimson": 0}),
        labelled([1, 2, "no_logo"]),
        labelled(["", "azure", "no_logo"]),
        labelled(["azure", "azure", "no_logo"]),
        labelled(["no_logo", "azure", "no_logo"]),
        labelled(["no_logo", "crimson", "azure"]),
        labelled(["crimson", "azure", "other"]),
        labelled(["crimson", "no_logo"]),
        labelled(["crimson", "azure", "lime", "no_logo"]),
        {"decision.1": "not JSON"},
        {"decision.1": "[]"},
        {"decision.1": "0.6"},
        {"decision.1": "{}"},
        {"decision.1": '{"good_threshold": 0.6}'},
        {"decision.1": '{"threshold": null}'},
        {"decision.1": '{"threshold": "0.6"}'},
        {"decision.1": '{"threshold": -0.01}'},
        {"decision.1": '{"threshold": 1.01}'},
        {"decision.1": '{"threshold": NaN}'},
        {"decision.1": '{"threshold": Infinity}'},
        {"decision.1": None, "decision.2": '{"threshold": 0.6}'},
    ],
    ids=str,
)
def test_a_brand_model_with_one_wrong_parameter_is_refused_by_its_name(changes: dict[str, str | None]) -> None:
    assert "brand_logo" in refusal(*served_models(brand=changes))


@pytest.mark.parametrize(
    "changes",
    [
        labelled(["5", "4", "3", "2", "1"]),
        labelled(["1", "2", "3", "4"]),
        labelled([1, 2, 3, 4, 5]),
        {"decision.1": '{"threshold": 0.6}'},
        {"decision.1": '{"good_threshold": 2}'},
        {"input_size": "31"},
    ],
    ids=str,
)
def test_a_quality_model_with_one_wrong_parameter_is_refused_by_its_name(changes: dict[str, str | None]) -> None:
    assert "photo_quality" in refusal(*served_models(quality=changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"input_type": "FP32"},
        {"input_type": "no input", "input_dims": ()},
        {"input_dims": (3, 32, 32)},
        {"input_dims": (32, 32)},
        {"input_dims": (32, 32, 1)},
        {"input_dims": (33, 33, 3)},
        {"output_dims": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize("position", [0, 1])
def test_other_tensors_than_the_contracts_are_refused_by_the_models_name(
    changes: dict[str, object], position: int
) -> None:
    models = list(served_models())
    models[position] = replace(models[position], **changes)
    assert models[position].name in refusal(*models)


@pytest.mark.parametrize(
    ("output", "dims"), [("quality_levels", (4,)), ("quality_levels", (5, 1)), ("brand_probs", (2,))]
)
def test_labels_that_do_not_count_an_outputs_values_are_refused(output: str, dims: tuple[int, ...]) -> None:
    quality, brand = (
        replace(model, output_dims={name: dims if name == output else size for name, size in model.output_dims.items()})
        for model in served_models()
    )
    assert output in refusal(quality, brand)


@pytest.mark.parametrize("missing", ["quality_score", "quality_levels"])
def test_a_missing_output_is_refused_by_its_name(missing: str) -> None:
    quality, brand = served_models()
    left = {name: dims for name, dims in quality.output_dims.items() if name != missing}
    text = refusal(replace(quality, output_dims=left), brand)
    assert f"photo_quality: no output ['{missing}']" in text


def test_a_quality_score_that_is_not_one_value_is_refused() -> None:
    quality, brand = served_models()
    refusal(replace(quality, output_dims={**quality.output_dims, "quality_score": (5,)}), brand)


def test_a_threshold_that_is_true_is_refused() -> None:
    refusal(*served_models(brand={"decision.1": '{"threshold": true}'}))


@pytest.mark.parametrize("position", [0, 1])
def test_a_model_version_that_has_no_rank_is_refused_at_start(position: int) -> None:
    models = list(served_models(version=1000))
    models[1 - position] = served_models()[1 - position]
    assert "1000" in refusal(*models)


@pytest.mark.parametrize(
    ("quality", "brand", "pixel_bytes"),
    [
        (Geometry(96, 96), Geometry(224, 224), 3 * (96**2 + 224**2)),
        (Geometry(224, 224), Geometry(160, 160), 3 * (224**2 + 160**2)),
        (Geometry(224, 232), Geometry(224, 256), 3 * 2 * 224**2),
        (Geometry(160, 160), Geometry(160, 160), 3 * 160**2),
        (Geometry(1, 1024), Geometry(1024, 1024), 3 * (1 + 1024**2)),
    ],
)
def test_each_model_has_its_own_geometry(quality: Geometry, brand: Geometry, pixel_bytes: int) -> None:
    agreed = contract.read(*map(seeing, served_models(), (quality, brand)))
    assert agreed.geometries == {"photo_quality": quality, "brand_logo": brand}
    assert agreed.pixel_bytes == pixel_bytes


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    "absurd", [Geometry(0, 224), Geometry(225, 224), Geometry(224, 1025), Geometry(8192, 8192), Geometry(1, 10**9 - 1)]
)
def test_a_geometry_beyond_its_bounds_is_refused_with_what_to_do(position: int, absurd: Geometry) -> None:
    models = list(served_models())
    models[position] = seeing(models[position], absurd)
    text = refusal(*models)
    assert text.startswith(f"{models[position].name}: input_size {absurd.input_size} must be 1..resize_short_side")
    assert "at most 1024: publish the model with a smaller input" in text


def test_the_checksum_is_sha256_over_the_lines_without_a_final_newline() -> None:
    assert contract.label_checksum(["a", "b"]) == hashlib.sha256(b"a\nb").hexdigest()


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("labels", '["\\ud800", "no_logo"]'),
        ("labels", "[" * 100_000),
        ("labels", "9" * 5_000),
        ("decision.1", '{"threshold": ' + "9" * 5_000 + "}"),
        ("decision.1", '{"threshold": NaN}'),
        ("input_size", "9" * 5_000),
        ("resize_short_side", "9" * 5_000),
    ],
)
def test_a_hostile_parameter_is_a_mismatch_in_words(parameter: str, text: str) -> None:
    with pytest.raises(ContractMismatch, match="brand_logo"):
        contract.read(*served_models(brand={parameter: text}))


def test_a_version_of_too_many_digits_is_a_mismatch() -> None:
    quality, brand = served_models()
    with pytest.raises(ContractMismatch, match="version"):
        contract.read(replace(quality, version="9" * 5_000), brand)


def test_a_change_is_told_by_what_differs() -> None:
    before = contract.read(*served_models())
    now = replace(before, quality_version="3", brand_labels=("azure", "crimson", "no_logo"))
    told = contract.differences(before, now)
    assert told.startswith("photo_quality: version 1 is now 3; label_checksum ")
    assert contract.differences(before, before) == ""


def test_a_change_of_one_models_input_names_that_model() -> None:
    before = contract.read(*served_models())
    told = contract.differences(before, replace(before, brand_geometry=Geometry(96, 104)))
    assert told == "brand_logo: input 32² from a short side of 32 is now 96² from a short side of 104"
    told = contract.differences(before, replace(before, quality_geometry=Geometry(32, 40)))
    assert told == "photo_quality: input 32² from a short side of 32 is now 32² from a short side of 40"
