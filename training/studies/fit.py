"""Training of the studies' networks: by epochs, with a line for each, the best weights kept on disk."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import Parameter, functional

from training.models.packages import PACKAGES
from training.recipes.recipe import Model
from training.runs import checkpoint
from training.statistics import Floats, Ints
from training.studies.affine import Affine, changed
from training.studies.study import Options, Table
from training.studies.unfinished import State

T = TypeVar("T")
#: Pictures of the given indices, as the network takes them: float32 [n, 3, H, W].
Pick = Callable[[np.random.Generator, Ints], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
_EVALUATED_AT_ONCE: Final = 64
TRAIN, VAL, TEST = "train", "val", "test"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled pictures, made on demand; those to evaluate on ignore the generator."""

    pick: Pick
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)


def in_memory(
    pixels: Tensor, labels: Ints, look: Callable[[Tensor], Tensor], changes: Affine | None = None
) -> Pictures:
    """Pictures of uint8 [N, ...] in memory; `look` makes them float32 [n, 3, H, W], random changes may follow."""

    def pick(rng: np.random.Generator, indices: Ints) -> Tensor:
        seen = look(pixels[torch.from_numpy(indices)])
        return seen if changes is None else changed(rng, seen, changes)

    return Pictures(pick, labels)


def model_of(arch: str, options: Options, trainable: Literal["all", "head"] = "all") -> Model:
    """A network with the weights that the options name for it, or pretrained ones, or random ones where none exist."""
    weights = options.weights.get(arch)
    pretrained = False if weights is not None or not _has_weights(arch, options) else options.pretrained
    return Model(arch=arch, weights=weights, pretrained=pretrained, trainable=trainable)


def _has_weights(arch: str, options: Options) -> bool:
    """Whether the source of weights that the options name has those of a network."""
    own, packed = arch.startswith("resnet10"), arch.partition("-")[0] in PACKAGES
    return packed if options.pretrained == "package" else not (own or packed)


def seeded(seed: int, make: Callable[[], T]) -> T:
    """What `make` makes with torch's generator at a seed; the caller's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def cross_entropy(weights: Tensor | None = None) -> Loss:
    """Cross-entropy of logits [N, C], with a weight for each label or none."""
    return lambda logits, labels: functional.cross_entropy(logits, labels, weights)


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of one logit a picture, [N, 1]; the sigmoid is applied here and in `probabilities_of`."""
    return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())


@dataclass(frozen=True, slots=True)
class Plan:
    """Hyperparameters of a training, and which epoch is the best."""

    epochs: int
    batch: int
    optimiser: Callable[[Iterable[Parameter]], torch.optim.Optimizer]
    loss: Loss
    monitor: Literal["accuracy", "loss"] = "accuracy"
    #: Which epoch's weights the network has in the end.
    keep: Literal["best", "last"] = "best"
    #: Epochs without a better one after which training stops; None: never early.
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"
    #: Whether accuracy on train is that of the network after the epoch; else the mean while its weights changed.
    train_after: bool = False
    #: Of the network, in lines and in the file of its weights.
    name: str = "net"
    #: Folder with the state after each epoch, so that a training that was stopped goes on; None: it starts anew.
    unfinished: Path | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """Metrics of one epoch; the loss of training is the mean over its batches, while the weights changed."""

    number: int
    loss: float
    accuracy: Mapping[str, float]
    val_loss: float
    seconds: float

    @property
    def line(self) -> str:
        """As the study printed it: loss, accuracies, time."""
        shares = ", ".join(f"{name} {value:.3f}" for name, value in self.accuracy.items())
        return f"epoch {self.number}: loss {self.loss:.4f}, {shares}, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A finished training; `file` has the best epoch's weights."""

    epochs: tuple[Epoch, ...]
    best: Epoch
    file: Path

    @property
    def table(self) -> Table:
        """A row for each epoch."""
        names = tuple(self.best.accuracy)
        lines = [
            (
                f"{epoch.number}{' (best)' if epoch is self.best else ''}",
                f"{epoch.loss:.4f}",
                *(f"{epoch.accuracy[name]:.3f}" for name in names),
                f"{epoch.seconds:.1f}",
            )
            for epoch in self.epochs
        ]
        return Table(("epoch", "loss", *names, "seconds"), tuple(lines))


def fit(net: nn.Module, pictures: Mapping[str, Pictures], plan: Plan, folder: Path, console: Console) -> Fitted:
    """Trains a network in place on `pictures["train"]` and leaves it with the weights of the best epoch on "val".

    Every other set is evaluated after each epoch; "test" is reported and never selects an epoch. `folder` has one file
    of weights of this name at any time: a better epoch's replaces it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net.to(plan.device)
    optimiser = plan.optimiser([p for p in net.parameters() if p.requires_grad])
    epochs: list[Epoch] = []
    best, kept = None, folder / f"{plan.name}-0.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)  # of dropout
        state = State.of(plan.unfinished, plan, net, optimiser, pictures)
        if found := state.read():
            epochs = [Epoch(**values) for values in found["epochs"]]
            best, kept = epochs[found["best"]], folder / f"{plan.name}-{epochs[found['best']].number}.pt"
            checkpoint.write(kept, found["weights"])
            console.print(f"{plan.name}: goes on after epoch {len(epochs)}", highlight=False, markup=False)
        while len(epochs) < plan.epochs and not _waited(epochs, best, plan):
            epochs.append(_epoch(net, pictures, plan, optimiser, len(epochs) + 1))
            console.print(f"{plan.name}: {epochs[-1].line}", highlight=False, markup=False)
            if best is None or _better(epochs[-1], best, plan):
                best, kept = epochs[-1], _keep(net, folder / f"{plan.name}-{epochs[-1].number}.pt", kept)
            state.write([asdict(epoch) for epoch in epochs], epochs.index(best), kept)
    assert best is not None  # noqa: S101 - a plan has an epoch
    if plan.keep == "best":
        net.load_state_dict(checkpoint.read(kept))
    return Fitted(tuple(epochs), best, kept)


def _epoch(
    net: nn.Module, pictures: Mapping[str, Pictures], plan: Plan, optimiser: torch.optim.Optimizer, number: int
) -> Epoch:
    started = time.perf_counter()
    loss, right = _train(net, pictures[TRAIN], plan, optimiser, number)
    shares, val_loss = _evaluate(net, pictures, plan)
    return Epoch(number, loss, {TRAIN: right, **shares}, val_loss, time.perf_counter() - started)


def _waited(epochs: list[Epoch], best: Epoch | None, plan: Plan) -> bool:
    """Whether as many epochs as the plan waits for brought no better one."""
    return best is not None and plan.patience is not None and epochs[-1].number - best.number >= plan.patience


def _better(epoch: Epoch, best: Epoch, plan: Plan) -> bool:
    if plan.monitor == "loss":
        return epoch.val_loss < best.val_loss
    return epoch.accuracy[VAL] > best.accuracy[VAL]


def _keep(net: nn.Module, path: Path, old: Path) -> Path:
    checkpoint.write(path, {name: value.cpu() for name, value in net.state_dict().items()})
    if old != path:
        old.unlink(missing_ok=True)
    return path


def _train(
    net: nn.Module, pictures: Pictures, plan: Plan, optimiser: torch.optim.Optimizer, number: int
) -> tuple[float, float]:
    """Mean loss and accuracy over an epoch. Frozen layers stay in evaluation mode, so their statistics stay too."""
    rng = np.random.default_rng((plan.seed, number))
    _training_mode(net)
    total, right = 0.0, 0
    for indices in _batches(rng.permutation(len(pictures)), plan.batch):
        labels = torch.from_numpy(pictures.labels[indices]).to(plan.device)
        logits = net(pictures.pick(rng, indices).to(plan.device))
        loss = plan.loss(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += loss.item() * len(indices)
        right += int((decided(logits.detach()) == labels).sum())
    return total / len(pictures), right / len(pictures)


def _training_mode(net: nn.Module) -> None:
    """Training mode for layers that learn; a frozen norm layer must not update its statistics."""
    net.train()
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _batches(order: Ints, size: int) -> list[Ints]:
    """Indices of each batch; a last batch of one picture joins the one before, since batch norm needs two."""
    ends = list(range(size, len(order), size))
    if ends and len(order) - ends[-1] == 1:
        ends.pop()
    return np.split(order, ends)


@torch.no_grad()
def logits_of(net: nn.Module, pictures: Pictures, device: str = "cpu") -> Tensor:
    """Logits [N, C] of every picture, in order, by a network in evaluation mode."""
    net.eval()
    rng = np.random.default_rng(0)
    parts = [
        net(pictures.pick(rng, indices).to(device)).float().cpu()
        for indices in np.split(np.arange(len(pictures)), range(_EVALUATED_AT_ONCE, len(pictures), _EVALUATED_AT_ONCE))
    ]
    return torch.cat(parts)


def _evaluate(net: nn.Module, pictures: Mapping[str, Pictures], plan: Plan) -> tuple[dict[str, float], float]:
    shares, val_loss = {}, float("nan")
    for name, some in pictures.items():
        if (name == TRAIN and not plan.train_after) or not len(some):
            continue
        logits, labels = logits_of(net, some, plan.device), torch.from_numpy(some.labels)
        shares[name] = float((decided(logits) == labels).float().mean())
        if name == VAL:
            val_loss = float(plan.loss(logits.to(plan.device), labels.to(plan.device)))
    return shares, val_loss


def decided(logits: Tensor) -> Tensor:
    """The predicted label of logits [N, C]: the highest, or 1 where the only one is above 0."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()


def probabilities_of(logits: Tensor) -> Floats:
    """Probabilities [N, C] of logits; of one logit, those of 0 and 1."""
    second = torch.sigmoid(logits.double())
    single = logits.shape[1] == 1
    found: Floats = (torch.cat((1 - second, second), 1) if single else torch.softmax(logits.double(), 1)).numpy()
    return found


def device_here() -> str:
    """Where to train: the first GPU, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
