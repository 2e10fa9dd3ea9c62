"""Recipes: strict, typed, described, and equal to what they were after a round trip."""

import pytest

from training.errors import RecipeError
from training.recipes.files import described, dump, load, parse, read, shipped
from training.recipes.recipe import Recipe

NAMES = [
    "brands-cpu",
    "composed-gpu",
    "demo-brand",
    "demo-quality",
    "head-only",
    "my-brands",
    "my-quality",
    "quality-cpu",
    "quality-rated",
    "quality-resnet",
    "resnet18-gpu",
    "resnet50-gpu",
]


def test_the_shipped_recipes_are_these() -> None:
    assert list(shipped()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_its_own_printing(name: str) -> None:
    recipe = read(name)
    assert recipe.summary
    assert parse(load(dump(recipe))) == recipe
    assert parse(load(described(recipe))) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_printed_with_its_description(name: str) -> None:
    lines = [line for line in described(read(name)).splitlines() if "kind:" not in line]
    assert [line for line in lines if " # " not in line] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=3", "unknown key train.stepz; did you mean steps"),
        ("trian.steps=3", "unknown key trian; did you mean train"),
        ("data.sources.0.sceens=3", "unknown key data.sources.0.sceens; did you mean scenes"),
        ("train.second.rat=3", "unknown key train.second.rat; did you mean rate"),
        ("train.steps=many", "train.steps"),
        ("train.steps=0", "train.steps"),
        ("train.steps=1.5", "train.steps"),
        ("augment.flip=1", "augment.flip"),
        ("train.steps", "key.path=value"),
        ("data.sources.7.kind=ava", "--set data.sources.7.kind"),
        ("task=logo", "task"),
    ],
)
def test_a_wrong_value_is_named_with_the_nearest_right_one(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        read("demo-brand", [override])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("demo-brand", "model.arch=efficientnet_lite0-mlp8-damage4", "for quality models: leave out -damage"),
        ("quality-rated", "augment.mixup=0.2", "set mixup and cutmix to 0"),
        ("quality-rated", "augment.cutmix=0.2", "set mixup and cutmix to 0"),
    ],
)
def test_a_head_that_sees_damage_is_refused_where_it_cannot_learn(name: str, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(name, [override])


def test_an_override_reaches_any_depth() -> None:
    recipe = read(
        "demo-brand",
        [
            "train.steps=7",
            "data.sources.0.scenes=9",
            "train.rate=1e-5",
            "train.second={steps: 2, rate: 0.1}",
            "model.dropout=0.5",
        ],
    )
    assert recipe.train.steps == 7
    assert recipe.train.rate == 1e-5
    assert recipe.data.sources[0].scenes == 9  # type: ignore[union-attr]
    assert recipe.train.second is not None
    assert recipe.train.second.steps == 2
    assert recipe.model.dropout == 0.5


@pytest.mark.parametrize("value", ["on", "off", "auto"])
def test_bf16_is_taken_as_it_is_described(value: str) -> None:
    assert read("demo-brand", [f"train.bf16={value}"]).train.bf16 == value


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean brands-cpu"):
        read("brand-cpu")


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read("demo-brand").seed = 3  # type: ignore[misc]


def test_every_field_of_every_section_is_described() -> None:
    schema = Recipe.model_json_schema()
    missing = [
        f"{name}.{field}"
        for name, part in schema["$defs"].items()
        for field, values in part["properties"].items()
        if field != "kind" and not values.get("description")
    ]
    assert missing == []
