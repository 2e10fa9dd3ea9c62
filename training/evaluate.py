"""Honest numbers: metrics beside their baselines, one temperature, and thresholds with a confidence bound.

Everything here works on the CPU tensors of one data set; nothing is fitted on the set that is reported.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.sets import NO_LOGO_INDEX, Batch, Origin
from training.models import normalise

_Z_95 = 1.96
#: Levels counted as good and as poor; level 3 is neither.
GOOD_LEVEL, POOR_LEVEL = 4, 2


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, batch: int = 128) -> Tensor:
    """Logits float32 [N, C] of uint8 images [N, 3, H, W], without gradients."""
    return torch.cat(
        [net(normalise(part).to(memory_format=torch.channels_last)).float() for part in torch.split(images, batch)]
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature 0.2..5 that minimises the negative log-likelihood of validation labels."""
    candidates = torch.logspace(math.log10(0.2), math.log10(5), 161)
    losses = torch.stack([functional.cross_entropy(logits / candidate, labels) for candidate in candidates])
    return round(float(candidates[losses.argmin()]), 4)


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the top class: mean gap between confidence and accuracy over equal-width bins."""
    confidence, predicted = probabilities.max(1)
    hit = (predicted == labels).float()
    which = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.stack([(hit - confidence)[which == index].sum() for index in range(bins)])
    return float(gaps.abs().sum() / len(labels))


def wilson_lower(hits: int, total: int) -> float:
    """Lower end of the 95 % Wilson interval of a share; 0 without observations."""
    if total == 0:
        return 0.0
    share, spread = hits / total, _Z_95**2 / total
    middle = share + spread / 2
    margin = _Z_95 * math.sqrt((share * (1 - share) + spread / 4) / total)
    return (middle - margin) / (1 + spread)


@dataclass(frozen=True, slots=True)
class BrandTarget:
    """What a brand threshold must hold on validation photos.

    `clean_rate` stays far under what is wanted in service, because real photos vary more than the ones made by code.
    """

    precision: float = 0.96
    clean_rate: float = 0.003
    lowest: float = 0.8
    highest: float = 0.99


def brand_threshold(probabilities: Tensor, labels: Tensor, origins: Tensor, target: BrandTarget) -> float:
    """The lowest threshold whose precision bound and false-positive rate on clean photos both reach the target.

    Precision counts look-alikes as errors and is judged by its lower confidence bound, since a few hundred photos
    swing the plain estimate by points. Returns `highest` if no threshold qualifies.
    """
    score, brand = probabilities[:, :NO_LOGO_INDEX].max(1)
    steps = round((target.highest - target.lowest) * 100)
    for step in range(steps + 1):
        threshold = target.lowest + step / 100
        tagged = score >= threshold
        right = int((tagged & (brand == labels)).sum())
        clean = float(tagged[origins == Origin.CLEAN].float().mean())
        if wilson_lower(right, int(tagged.sum())) >= target.precision and clean <= target.clean_rate:
            return round(threshold, 2)
    return target.highest


def brand_metrics(probabilities: Tensor, data: Batch, threshold: float) -> dict[str, float]:
    """Accuracy and recall by argmax, then what the threshold does; always-no-logo is the baseline to beat."""
    labels, origins = data.labels, data.origins
    predicted = probabilities.argmax(1)
    score, brand = probabilities[:, :NO_LOGO_INDEX].max(1)
    branded, tagged = origins == Origin.BRAND, score >= threshold
    present = [index for index in range(NO_LOGO_INDEX) if bool((labels == index).any())]
    recalls = [float((predicted == index)[labels == index].float().mean()) for index in present]
    right = tagged & (brand == labels)
    metrics = {
        "photos": len(labels),
        "accuracy": float((predicted == labels).float().mean()),
        "accuracy_always_no_logo": float((labels == NO_LOGO_INDEX).float().mean()),
        "macro_recall": sum(recalls) / max(1, len(recalls)),
        "worst_brand_recall": min(recalls, default=0.0),
        "fpr_clean": float((predicted != NO_LOGO_INDEX)[origins == Origin.CLEAN].float().mean()),
        "fpr_distractor": float((predicted != NO_LOGO_INDEX)[origins == Origin.DISTRACTOR].float().mean()),
        "tagged_precision": float(right.sum() / tagged.sum().clamp(min=1)),
        "tagged_recall": float(right[branded].float().mean()),
        "tagged_fpr_clean": float(tagged[origins == Origin.CLEAN].float().mean()),
        "tagged_fpr_distractor": float(tagged[origins == Origin.DISTRACTOR].float().mean()),
        "calibration_error": calibration_error(probabilities, labels),
    }
    return {name: round(value, 4) for name, value in metrics.items()}


def ranks(values: Tensor) -> Tensor:
    """Average ranks from 1, ties shared."""
    _, group, counts = torch.unique(values.double(), return_inverse=True, return_counts=True)
    shared: Tensor = counts.cumsum(0).double() - (counts - 1) / 2
    return shared[group]


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Spearman's correlation, -1..1."""
    return float(torch.corrcoef(torch.stack((ranks(left), ranks(right))))[0, 1])


def area_under_roc(scores: Tensor, positive: Tensor) -> float:
    """The chance that a random positive scores above a random negative; ties count half."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    rank_sum = float(ranks(scores)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def quality_scores(probabilities: Tensor) -> Tensor:
    """(expected level - 1) / 4 of level probabilities [N, 5]: float32 [N] in 0..1."""
    return probabilities @ torch.linspace(0, 1, probabilities.shape[1])


def good_threshold(scores: Tensor, levels: Tensor) -> float:
    """The score that best tells good photos from poor ones, by the mean of both hit rates on validation photos."""
    good, poor = scores[levels >= GOOD_LEVEL], scores[levels <= POOR_LEVEL]
    candidates = torch.linspace(0.2, 0.8, 61)
    balanced = torch.stack([((good >= c).float().mean() + (poor < c).float().mean()) / 2 for c in candidates])
    return round(float(candidates[balanced.argmax()]), 2)


def quality_metrics(probabilities: Tensor, data: Batch, threshold: float) -> dict[str, float]:
    """Rank correlation with the true level, exact and off-by-one accuracy, and good against poor (level 3 left out)."""
    levels, scores = data.labels + 1, quality_scores(probabilities)
    miss = (probabilities.argmax(1) - data.labels).abs()
    sided = levels != POOR_LEVEL + 1
    good = levels[sided] >= GOOD_LEVEL
    metrics = {
        "photos": len(levels),
        "srcc": rank_correlation(scores, levels),
        "accuracy": float((miss == 0).float().mean()),
        "accuracy_majority": float(torch.bincount(data.labels).max() / len(levels)),
        "within_one": float((miss <= 1).float().mean()),
        "binary_accuracy": float(((scores[sided] >= threshold) == good).float().mean()),
        "auc": area_under_roc(scores[sided], good),
        "calibration_error": calibration_error(probabilities, data.labels),
    }
    return {name: round(value, 4) for name, value in metrics.items()}
