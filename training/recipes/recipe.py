"""The schema of recipes: every value of a run, typed, bounded and described.

A recipe is data, never code. Unknown keys are errors; `files` reads, overrides and prints recipes.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from training.recipes.sources import Count, Part, Share, Source, UnratedSource

#: Sides of photos that are a share of another are a multiple of so many px, which convolutions compute fast.
_PX_STEP: Final = 8


def _switch(value: object) -> object:
    """YAML reads `on` and `off` without quotes as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Splitting(Part):
    """How photos are split into train, val and test."""

    val: Share = Field(0.15, description="share of photos to choose thresholds and the best weights on")
    test: Share = Field(0.15, description="share of photos to report on")
    seed: int = Field(0, description="of the split")
    keep_given: bool | Literal["test"] = Field(
        default=True,
        description="keep the data's own splits; test: keep their test photos as they are, split the others again; "
        "false: split all photos again",
    )
    near_bits: Annotated[int, Field(ge=0, le=16)] = Field(
        4, description="photos whose 64-bit difference hashes differ in at most so many bits are one group"
    )
    scenes: tuple[Literal["folder", "time", "names", "look"], ...] = Field(
        ("time",),
        description="which photos of one source are one scene, and stay in one split: folder: all in one folder; time: "
        "those in one folder that were taken within gap_s of each other, by EXIF; names: those in one folder whose "
        "names differ in one number, by 1 (IMG_12, IMG_13); look: those whose features of the frozen backbone are "
        "alike, in any folder",
    )
    gap_s: Annotated[float, Field(ge=0)] = Field(60.0, description="scenes: time: between photos of one scene")
    alike: Annotated[float, Field(gt=0, le=1)] = Field(
        0.85, description="scenes: look: least cosine of the features of two photos of one scene"
    )
    on_leak: Literal["drop", "fail"] = Field(
        "drop", description="drop: of photos that leak between splits, drop the training copy; fail: stop"
    )


class Data(Part):
    """Where photos come from."""

    root: Path = Field(Path(), description="base folder of relative paths in sources (--data)")
    sources: tuple[Source, ...] = Field(min_length=1, description="photos to train and evaluate on")
    ordinary: tuple[Path, ...] = Field(
        (), description="folders of photos without any known brand, trained on as no_logo, and composed on"
    )
    foreign: tuple[Path, ...] = Field(
        (), description="folders of photos without any known brand, never trained on: split `foreign` (--foreign)"
    )
    split: Splitting = Field(Splitting(), description="split into train, val and test")
    stored_px: Count = Field(128, description="side of the decoded squares that training crops, in px")
    cache: Path | None = Field(
        Path(".cache/photo-trainer"), description="folder for decoded photos; null: decode again for every batch"
    )
    workers: Count = Field(2, description="threads that decode and make photos")
    makers: Count = Field(1, description="threads that prepare the next batches; a GPU needs many")


class Model(Part):
    """The network."""

    arch: str = Field(
        "resnet10",
        description="resnet10, resnet10-w<width>, efficientnet_lite<0..2> (-stages: its head also sees every stage), a "
        "torchvision classifier, or timm/<name>",
    )
    input_px: Annotated[int, Field(ge=1, le=1024)] = Field(
        96, description="side of the network's input, in px; the service takes no larger one"
    )
    trainable: Literal["all", "head"] = Field(
        "all", description="head: all but the last layer are frozen, and their features of photos are computed once"
    )
    frozen_stages: Annotated[int, Field(ge=0, le=7)] = Field(
        0, description="efficientnet_lite: so many first stages, and the stem, stay as they are"
    )
    keep_norms: bool = Field(
        default=False,
        description="batch norms keep the statistics of the weights that it starts from: for few photos, or batches of "
        "two kinds",
    )
    weights: Path | None = Field(None, description="state dict to start from; a last layer of another shape is new")
    weights_sha256: str | None = Field(None, description="SHA-256 that the file must have")
    pretrained: Literal[False, "package", "download"] = Field(
        default=False,
        description="start from ImageNet weights, unless `weights` names a file: package: those of an installed "
        "package (`photo-trainer backbones`); download: the library's, which it downloads",
    )
    dropout: Share = Field(0.0, description="dropout before the last layer (resnet10, or where the network has one)")

    @model_validator(mode="after")
    def _norms_that_can_be_kept(self) -> Self:
        if self.keep_norms and not (self.pretrained or self.weights):
            raise ValueError("keep_norms is for weights to start from: set pretrained, or name a file in weights")
        return self


class Augment(Part):
    """Augmentation; all random numbers come from the step's own generator."""

    least_zoom: Share = Field(0.65, description="smallest side of a random crop, as a share of the stored square")
    aspect: Annotated[float, Field(ge=0, le=1)] = Field(0.15, description="log of the largest aspect ratio of a crop")
    turn_deg: Annotated[float, Field(ge=0, le=180)] = Field(8.0, description="largest rotation, in degrees")
    flip: bool = Field(default=False, description="mirror half of the photos; not for logos with letters")
    light: Share = Field(0.25, description="largest relative change of brightness and of contrast")
    colour: Share = Field(0.25, description="largest change of saturation, and a fifth of it per channel")
    grey: Share = Field(0.0, description="share of photos that are turned to grey")
    blur: Share = Field(0.1, description="share of photos with blur")
    noise: Share = Field(0.1, description="share of photos with noise")
    erase: Share = Field(0.1, description="share of photos with random erasing of a rectangle")
    scramble: Share = Field(
        0.0, description="share of brand photos whose tiles are shuffled and whose label becomes no_logo"
    )
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="alpha of mixup; 0 is off")
    cutmix: Annotated[float, Field(ge=0)] = Field(0.0, description="alpha of cutmix; 0 is off")


class Loss(Part):
    """Cross-entropy for brands; squared earth mover's distance (EMD) of levels plus cross-entropy for quality."""

    label_smoothing: Share = Field(0.05, description="share of probability spread over all labels (brands)")
    cross_entropy: Annotated[float, Field(ge=0)] = Field(
        0.2, description="weight of cross-entropy next to EMD (quality)"
    )
    copies: Share = Field(
        0.3, description="-damage only: share of their gradient by which damaged copies teach the opinion too"
    )
    undamaged: Annotated[float, Field(ge=0)] = Field(
        0.4, description="-damage only: weight of the square of what is taken off photos that are no copies"
    )


class Stage(Part):
    """One optimiser and its schedule."""

    steps: Count = Field(1000, description="training steps of this stage")
    optimiser: Literal["adamw", "adam", "sgd", "rmsprop"] = Field("adamw", description="optimiser")
    rate: Annotated[float, Field(gt=0)] = Field(2e-3, description="peak learning rate, for the whole batch")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.05, description="weight decay; none for norms and biases")
    momentum: Share = Field(0.9, description="of sgd (Nesterov) and rmsprop")
    warm_up: Share = Field(0.1, description="share of the steps that are linear warm-up")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning-rate schedule after warm-up")
    evaluate_steps: Count = Field(200, description="steps between evaluations on val")
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="evaluations without improvement after which the stage ends; 0: no early stopping"
    )


class Train(Stage):
    """The loop: the first stage and what all stages share."""

    second: Stage | None = Field(None, description="a second stage, which starts at the best weights of the first")
    batch: Count = Field(64, description="photos per step, over all processes")
    side: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="side of the photos in a batch, as a share of model.input_px, to 8 px. Random crops show things "
        "larger than whole photos do: at 0.85 things have about one size in both, and a step costs less",
    )
    sampler: Literal["natural", "balanced"] = Field("natural", description="balanced: every label equally often")
    no_logo_share: Share | None = Field(
        None, description="balanced only: share of no_logo in a batch; null: as any label"
    )
    views: Count = Field(
        4, description="trainable: head only: how often each photo is augmented anew before its features repeat"
    )
    clip: Annotated[float, Field(ge=0)] = Field(5.0, description="largest norm of the gradient; 0 is off")
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="decay of the exponential moving average (EMA) of weights"
    )
    bf16: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)] = Field(
        "auto", description="bfloat16 autocast; auto: on devices with native support"
    )
    threads: Count = Field(1, description="torch threads per operation; in the recipe, since rounding depends on it")
    checkpoint_steps: Count = Field(100, description="steps between checkpoints")
    track: Literal["tensorboard", "mlflow"] | None = Field(
        None, description="also log loss and scores there; needs the extra `tracking`; null: metrics.jsonl alone"
    )
    best: Literal["last", "best"] = Field(
        "best", description="final weights: of the best evaluation, or of the last step"
    )
    final: Literal["selection", "all"] = Field(
        "selection",
        description="weights to publish: selection: those that val chose and test measured; all: those of a second, "
        "equal training on the photos of all splits, with the first one's threshold and temperature",
    )

    @model_validator(mode="after")
    def _nothing_chosen_on_what_is_trained_on(self) -> Self:
        stages: tuple[Stage, ...] = (self, self.second) if self.second else (self,)
        if self.final == "all" and (self.best != "last" or any(stage.patience for stage in stages)):
            raise ValueError("final: all leaves no photos to choose weights on: set best: last and patience: 0")
        return self


class Teacher(Part):
    """A quality model whose answers are labels of the photos to train on (distillation)."""

    path: Path = Field(description="folder of a published version, such as triton_models/photo_quality/2, or of a run")
    share: Share = Field(
        0.5, description="of the teacher's answer in the labels of photos that people rated; unrated ones have no other"
    )


class Recipe(Part):
    """A whole run."""

    task: Literal["brand", "quality"] = Field(description="brand: which logo; quality: how good, 1..5")
    summary: str = Field("", description="purpose of the recipe, one line")
    seed: int = Field(0, description="of initial weights, sampling order and augmentation")
    data: Data = Field(description="photos")
    teacher: Teacher | None = Field(None, description="a model to learn from beside the ratings (quality)")
    model: Model = Field(Model(), description="network")
    augment: Augment = Field(Augment(), description="augmentation")
    loss: Loss = Field(Loss(), description="loss")
    train: Train = Field(Train(), description="loop")

    @property
    def trained_px(self) -> int:
        """Side of the photos in a training batch."""
        px, share = self.model.input_px, self.train.side
        return px if share == 1 else max(_PX_STEP, round(px * share / _PX_STEP) * _PX_STEP)

    @model_validator(mode="after")
    def _taught_where_it_can_be(self) -> Self:
        if self.teacher and self.task != "quality":
            raise ValueError("a teacher is for quality models: leave teacher out")
        if not self.teacher and any(isinstance(source, UnratedSource) for source in self.data.sources):
            raise ValueError("nobody rated the photos of a source of kind unrated: name a model in teacher.path")
        return self

    @model_validator(mode="after")
    def _damage_seen_where_it_can_be(self) -> Self:
        arch = self.model.arch
        if "-damage" in arch and self.task != "quality":
            raise ValueError(f"{arch} tells damage from opinion, for quality models: leave out -damage")
        if "-damage" in arch and (self.augment.mixup or self.augment.cutmix):
            raise ValueError(f"{arch} must know which photos are damaged copies: set mixup and cutmix to 0")
        return self
