"""What an examination finds, and of what it is made. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Literal

#: `warning`: it works now, and something will go wrong, or goes slower. `failure`: photos are lost, refused or wait.
Verdict = Literal["ok", "warning", "failure"]
#: What is examined, each by itself.
Part = Literal["kafka", "registry", "redis", "triton", "host"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is like, and where it is not as it should be, what to do.

    `silent` is that a server does not answer, so that nothing else is known of it.
    """

    part: Part
    about: str
    verdict: Verdict
    detail: str
    advice: str = ""
    silent: bool = False


Findings = Iterator[Finding]


def ok(part: Part, about: str, detail: str) -> Finding:
    """It is as it should be."""
    return Finding(part, about, "ok", detail)


def warning(part: Part, about: str, detail: str, advice: str) -> Finding:
    """It works, and should be changed."""
    return Finding(part, about, "warning", detail, advice)


def failure(part: Part, about: str, detail: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(part, about, "failure", detail, advice)


def down(part: Part, detail: str, advice: str) -> Finding:
    """It does not answer."""
    return Finding(part, "answer", "failure", detail, advice, silent=True)


def clock(part: Part, whose: str, ahead_s: float, allowed_s: float) -> Finding:
    """How far a clock is from this host's, which `allowed_s` bounds."""
    detail = f"{whose} is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this host"
    if abs(ahead_s) <= allowed_s:
        return ok(part, "clock", detail)
    return warning(part, "clock", detail, "set both clocks by the same NTP servers (`timedatectl` shows this one)")


@dataclass(frozen=True, slots=True)
class Until:
    """A moment (monotonic) at which every answer must be there."""

    deadline_s: float

    @property
    def left_s(self) -> float:
        """The time until then; never nothing, for clients take that as no limit."""
        return max(0.1, self.deadline_s - monotonic())
