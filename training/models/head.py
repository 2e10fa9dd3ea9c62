"""The head of EfficientNet-Lite: the last layer, behind a standardisation, and parts between."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Linear):
    """The last layer, behind the standardisation of its features, whose scales differ by stage.

    With `damage` it has two parts: people's opinion of a photo, and by how much damage lowers it. What one part learns
    of damaged copies would otherwise cost the other some of what it knows of opinions.

    Args:
        inputs: Features of a photo.
        outputs: Width of the last layer.
        hidden: Units of a layer between; 0 for none.
        dropout: Before the last layer.
        members: Parts of the layer between, of `hidden` units each, that learn to answer alone; the mean of their
            answers, which is served, errs less than one of them.
        damage: Units of a layer that sees damage; its answer, times 0, 1, 2 and so on, is taken off the logits of the
            outputs, which are levels. 0 for none; it needs a layer between.
    """

    def __init__(
        self, inputs: int, outputs: int, *, hidden: int = 0, dropout: float = 0.0, members: int = 1, damage: int = 0
    ) -> None:
        super().__init__(hidden * members or inputs, outputs)
        with torch.no_grad():  # a member begins as a layer of its own width does
            self.weight.mul_(members**0.5)
        self.inputs, self.dropout, self.members = inputs, dropout, members
        # a feature that hardly varied in training must not decide alone where it does
        self.norm: nn.Module = nn.BatchNorm1d(inputs, eps=1e-4, affine=False)
        self.hidden = nn.Linear(inputs, hidden * members) if hidden else None
        self.damage = nn.Linear(inputs, damage) if damage else None
        self.lowers = nn.Linear(damage, 1) if damage else None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is torch's
        """[N, inputs] to [N, outputs]; while training to [N x members, outputs], every member's answers.

        With `damage` a column more is returned while training: by how much it lowers the answer beside it.
        """
        seen = self.norm(input)
        if self.damage is None or self.lowers is None:
            return self._opinion(seen)
        opinion, lowers = self._opinion(seen), self.lowers(self._kept(functional.relu(self.damage(seen))))
        if self.training:
            return torch.cat((opinion, lowers.repeat_interleave(self.members, 0)), 1)
        return lowered(opinion, lowers)

    def _kept(self, seen: Tensor) -> Tensor:
        return functional.dropout(seen, self.dropout, self.training)

    def _opinion(self, seen: Tensor) -> Tensor:
        """What `forward` returns without `damage`, of standardised features."""
        seen = self._kept(seen if self.hidden is None else functional.relu(self.hidden(seen)))
        if self.training and self.members > 1:
            parts, weights = (tensor.view(len(tensor), self.members, -1) for tensor in (seen, self.weight))
            return (torch.einsum("nmh,omh->nmo", parts, weights) + self.bias).flatten(0, 1)
        return super().forward(seen / self.members if self.members > 1 else seen)

    @torch.no_grad()
    def fold(self) -> None:
        """Puts the norm, with its statistics, into the layer behind it, and the mean into the last, in place.

        The layer that sees damage becomes a part of the one between.
        """
        self.weight.div_(self.members)
        self.members = 1
        if self.hidden and self.damage and self.lowers:
            levels = torch.arange(self.out_features, device=self.weight.device).float()[:, None]
            for name in ("weight", "bias"):
                both = torch.cat([getattr(layer, name) for layer in (self.hidden, self.damage)])
                setattr(self.hidden, name, nn.Parameter(both))
            self.weight = nn.Parameter(torch.cat((self.weight, -levels * self.lowers.weight), 1))
            self.bias.sub_((levels * self.lowers.bias)[:, 0])
            self.damage = self.lowers = None
        norm, first = cast("nn.BatchNorm1d", self.norm), self.hidden or self
        mean, variance = (cast("Tensor", value) for value in (norm.running_mean, norm.running_var))
        first.weight.mul_((variance + norm.eps).rsqrt())
        first.bias.sub_(first.weight @ mean)
        self.norm = nn.Identity()


def lowered(opinion: Tensor, lowers: Tensor) -> Tensor:
    """Logits of levels [N, outputs] lowered by [N, 1]: their mean falls as that rises, and no level is ruled out."""
    return opinion - lowers * torch.arange(opinion.shape[1], device=opinion.device)
