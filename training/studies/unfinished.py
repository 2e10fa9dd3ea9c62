"""The state of a training after each epoch, so that one that was stopped goes on where it was."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from training.heads.features import weights_sha256
from training.runs import checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.studies.fit import Pictures, Plan
#: Pictures of each set that tell other photos, or photos that are seen otherwise.
_LOOKED_AT: Final = 16


@dataclass(frozen=True, slots=True)
class State:
    """Where the state of one training is kept, named by everything that decides its result."""

    #: None: it is not kept.
    path: Path | None
    net: nn.Module
    optimiser: torch.optim.Optimizer

    @classmethod
    def of(
        cls,
        folder: Path | None,
        plan: "Plan",
        net: nn.Module,
        optimiser: torch.optim.Optimizer,
        pictures: "Mapping[str, Pictures]",
    ) -> "State":
        """The state of a training that has not begun; the folder's name is the study's."""
        if folder is None:
            return cls(None, net, optimiser)
        folder.mkdir(parents=True, exist_ok=True)
        digest = _digest(folder.name, plan, net, optimiser, pictures)
        return cls(folder / f"{plan.name}-{digest[:16]}.pt", net, optimiser)

    def read(self) -> dict[str, Any]:
        """Takes up the network, the optimiser and the generator; returns epochs, the best one's place and weights."""
        if self.path is None or not self.path.is_file():
            return {}
        found = checkpoint.read(self.path)
        self.net.load_state_dict(found["net"])
        self.optimiser.load_state_dict(found["optimiser"])
        torch.set_rng_state(found["generator"])
        return found

    def write(self, epochs: list[dict[str, Any]], best: int, weights: Path) -> None:
        """Keeps the state after an epoch; `weights` is the file of the best one's."""
        if self.path is None:
            return
        content = {
            "epochs": epochs,
            "best": best,
            "weights": checkpoint.read(weights),
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": torch.get_rng_state(),
        }
        checkpoint.write(self.path, content)


def _digest(
    study: str, plan: "Plan", net: nn.Module, optimiser: torch.optim.Optimizer, pictures: "Mapping[str, Pictures]"
) -> str:
    """A hash of the code of the study and of all, the plan, the first weights, the labels, and some of the pictures."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in (*sorted(here.glob("*.py")), *sorted((here / study).glob("*.py"))):
        digest.update(path.read_bytes())
    values = {entry.name: getattr(plan, entry.name) for entry in fields(plan)}
    told = {name: value for name, value in values.items() if isinstance(value, str | int | None)}
    rates = [{name: value for name, value in group.items() if name != "params"} for group in optimiser.param_groups]
    learned = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    digest.update(repr((told, type(optimiser), rates, learned, weights_sha256(net))).encode())
    for name, some in sorted(pictures.items()):
        digest.update(name.encode() + some.labels.tobytes())
        shown = np.unique(np.linspace(0, max(0, len(some) - 1), min(_LOOKED_AT, len(some))).astype(np.int64))
        if len(shown):
            digest.update(some.pick(np.random.default_rng(0), shown).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
