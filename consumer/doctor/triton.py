"""Triton: its version, the models that it serves, whether they are those in force, and whether they answer."""

import asyncio
from concurrent.futures import Future
from time import monotonic
from typing import Final

import numpy as np

from consumer.contract import ModelContract
from consumer.doctor.findings import Finding, Findings, Until, failure, ok, warning
from consumer.errors import ContractMismatch, DependencyDown, PhotoRejected, Retryable
from consumer.releases import Numbered, contract_under
from consumer.service import construction
from consumer.settings import Settings
from consumer.triton.inference import Question, TritonClient

#: What the tests run with.
_OLDEST: Final = (2, 51)
_ALIVE: Final = "is it running, and is it the one in triton.url? `photo-tagger config` shows from where"
_LOADS: Final = "load them: start Triton with the repository that training publishes to (docs/how-to/deploy-compose.md)"
#: Kept for the questions to Triton while Kafka is waited for.
_KEPT_S: Final = 2.0

#: The release in force, once Kafka has said it; None where there is none, or it cannot be known.
InForce = Future[Numbered | None]


def examine(settings: Settings, until: Until, in_force: InForce) -> Findings:
    """Asks the server; blocking.

    Yields:
        The findings, as they come.

    Raises:
        DependencyDown: it does not answer.
    """
    # In one loop: the channels of gRPC outlive theirs, and complain.
    yield from asyncio.run(_look(settings, until, in_force))


def advice(_detail: str) -> str:
    """What to do where it does not answer."""
    return _ALIVE


async def _look(settings: Settings, until: Until, in_force: InForce) -> list[Finding]:
    async with construction.triton_client(settings) as client:
        version = await client.server_version()
        found = [ok("triton", "answer", f"{settings.triton.url} answers"), _version(version)]
        try:
            async with asyncio.timeout(max(0.1, until.left_s - _KEPT_S)):
                release = await asyncio.wrap_future(in_force)
        except TimeoutError:
            release = None
        return [*found, *await _models(client, settings, release)]


def _version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return warning(
            "triton", "version", f"Triton {version}: older than {oldest}", "nobody tried it; use a newer one"
        )
    return ok("triton", "version", f"Triton {version}")


async def _models(client: TritonClient, settings: Settings, release: Numbered | None) -> list[Finding]:
    """The models of a release, else the newest ones that are loaded."""
    triton = settings.triton
    names = (triton.quality_model, triton.brand_model)
    if release is not None:
        names = (release.release.quality.model, release.release.brand.model)
    try:
        served = await client.read_contract(*names, None if release is None else release.release.models)
        if release is not None:
            served = contract_under(release.release, served)
    except DependencyDown as missing:
        return [failure("triton", "models", missing.detail, _LOADS)]
    except ContractMismatch as mismatch:
        advice = "serve what was published, or go back: `photo-tagger models rollback`"
        return [failure("triton", "contract", str(mismatch), advice)]
    found = [_release(release, served), _contract(served)]
    outputs = {
        served.quality_model: ("quality_score", 1),
        served.brand_model: ("brand_probs", len(served.brand_labels)),
    }
    return [*found, *[await _answer(client, served, model, *output) for model, output in outputs.items()]]


def _release(release: Numbered | None, served: ModelContract) -> Finding:
    models = ", ".join(f"{name} {version}" for name, version in served.models.items())
    if release is None:
        return ok("triton", "release", f"none is in force yet, or Kafka does not say; the newest are {models}")
    return ok("triton", "release", f"{release.number} is in force: {models}, both loaded")


def _contract(served: ModelContract) -> Finding:
    shown = "; ".join(f"{name} sees {geometry}" for name, geometry in served.geometries.items())
    return ok("triton", "contract", f"{len(served.brand_labels) - 1} brands; {shown}")


async def _answer(client: TritonClient, served: ModelContract, model: str, output: str, values: int) -> Finding:
    """Asks a model for one grey photo."""
    size, began_s = served.geometries[model].input_size, monotonic()
    question = Question(model, served.models[model], output, values, served.contract_ids[model])
    try:
        await client.ask(question, [np.full((size, size, 3), 128, np.uint8)])
    except (DependencyDown, Retryable, PhotoRejected) as error:
        return failure("triton", f"answers of {model}", str(error), "look at Triton's log")
    return ok("triton", f"answers of {model}", f"{output} of a grey photo in {(monotonic() - began_s) * 1000:.0f} ms")
