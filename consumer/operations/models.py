"""Model versions: what is published, loaded and in force; loads one beside the others, and retires one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

from consumer.errors import DependencyDown, NotFound, Refused
from consumer.operations.model_folder import ModelFolder, folder_of, required_folder
from consumer.operations.verification import Verification
from consumer.operations.verification import verify as verify_version
from consumer.service import construction
from consumer.settings import Settings
from consumer.triton.repository import READY, LoadRefused, RepositoryClient, VersionState, config_json

_NOT_LOADED: Final = "not loaded"
#: The figures of a manifest that tell versions apart.
_FIGURES: Final[tuple[str, ...]] = ("srcc", "auc", "binary_accuracy", "accuracy", "tagged_precision", "tagged_recall")
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of a model; what the folder says of it is None where it is not in the folder."""

    model: str
    version: int
    #: As Triton's index has it, and why; `not loaded` where it is not in the index.
    state: str
    reason: str
    published_at: str | None
    figures: dict[str, float] | None
    bytes: int | None


async def list_versions(settings: Settings) -> list[Listed]:
    """Every version of the repository's folder, if the settings name one, and of Triton's index.

    Raises:
        DependencyDown: Triton does not answer.
        SettingsError: Triton wants another admin key, or there is no such folder.
    """
    folder = folder_of(settings)
    async with client_of(settings) as client:
        states = {(each.model, int(each.version)): each for each in await client.index() if each.version.isdecimal()}
    published = {(model, n) for model in folder.models for n in folder.versions(model)} if folder else set()
    return [
        _listed(folder if (model, version) in published else None, model, version, states.get((model, version)))
        for model, version in sorted(published | states.keys())
    ]


def _listed(folder: ModelFolder | None, model: str, version: int, state: VersionState | None) -> Listed:
    text, reason = (state.state or _NOT_LOADED, state.reason) if state else (_NOT_LOADED, "")
    if folder is None:
        return Listed(model, version, text, reason, None, None, None)
    size_bytes = folder.size_bytes(model, version)
    try:
        manifest = folder.manifest(model, version)
    except NotFound as missing:
        return Listed(model, version, text, reason or str(missing), None, None, size_bytes)
    figures = {name: manifest.test[name] for name in _FIGURES if name in manifest.test}
    return Listed(model, version, text, reason, manifest.created_at, figures, size_bytes)


async def verify(settings: Settings, model: str, version: int) -> Verification:
    """Verifies a version that is loaded; see `verification.verify`.

    Raises:
        NotFound: it is not in the folder or not loaded, or has no golden photos.
        DependencyDown: Triton does not answer.
        SettingsError: the settings name no folder.
    """
    folder = required_folder(settings)
    async with client_of(settings) as client:
        return await verify_version(folder, client, construction.prepare_limits(settings), model, version)


async def load(settings: Settings, model: str, version: int) -> list[int]:
    """Loads a version beside those that are loaded, which go on serving; the versions that are loaded then.

    Raises:
        NotFound: it is not in the folder.
        LoadRefused: Triton cannot load it, and says why.
        DependencyDown: Triton does not answer.
        SettingsError: the settings name no folder, or another admin key than Triton wants.
    """
    folder = required_folder(settings)
    if version not in (there := folder.versions(model)):
        found = f"there are {', '.join(map(str, there))}" if there else f"models there: {', '.join(folder.models)}"
        raise NotFound(f"no {model} {version} in {folder.path}; {found}")
    async with client_of(settings) as client:
        loaded = await _loaded(client, model)
        if version not in loaded:
            await _serve(folder, client, model, {*loaded, version})
        return sorted({*loaded, version})


async def retire(settings: Settings, model: str, version: int, needed: Mapping[tuple[str, int], str]) -> list[int]:
    """Unloads a version; the others go on serving. The versions that are loaded then.

    `needed` says of versions that must stay why they must.

    Raises:
        Refused: it must stay, or is the only one that is loaded.
        LoadRefused: Triton refuses, and says why.
        DependencyDown: Triton does not answer, or serves it still.
        SettingsError: as `load`.
    """
    folder = required_folder(settings)
    if why := needed.get((model, version)):
        raise Refused(f"{model} {version} stays loaded: it is {why}")
    async with client_of(settings) as client:
        left = await _loaded(client, model)
        if version in left:
            left.discard(version)
            if not left:
                raise Refused(f"{model} {version} stays loaded: it is the only version of {model} that is")
            await _serve(folder, client, model, left)
        return sorted(left)


async def _serve(folder: ModelFolder, client: RepositoryClient, model: str, versions: set[int]) -> None:
    """Has Triton serve these versions and no other: it loads and unloads what differs, and leaves the others alone.

    Raises:
        LoadRefused: one of them is not served.
        NotFound: the configuration in the folder is none.
        DependencyDown: Triton does not answer.
    """
    try:
        config = config_json(folder.config(model), versions)
    except ValueError as error:
        raise NotFound(f"the configuration {folder.config_name} of {model} is none: {error}") from None
    await client.load(model, config)
    states = await _settled(client, model)
    # A version that Triton does not find is no failure of the load.
    missing = [
        f"version {number} is {states[number].state}: {states[number].reason}"
        if number in states
        else f"version {number} is not in Triton's repository, which is another folder than {folder.path}"
        for number in sorted(versions)
        if number not in states or states[number].state != READY
    ]
    if missing:
        raise LoadRefused(f"Triton does not serve {model}: {'; '.join(missing)}")


async def _settled(client: RepositoryClient, model: str) -> dict[int, VersionState]:
    """The state of each version of a model, once none is being loaded or unloaded.

    Raises:
        DependencyDown: one is for longer than a load may take.
    """
    end_s = monotonic() + client.load_timeout_s
    while True:
        states = {int(each.version): each for each in await client.index() if each.model == model and each.version}
        moving = [each for each in states.values() if each.state in {"LOADING", "UNLOADING"}]
        if not moving:
            return states
        if monotonic() > end_s:
            raise DependencyDown("triton", f"{model} {moving[0].version} is {moving[0].state} for too long")
        await asyncio.sleep(_POLL_S)


async def _loaded(client: RepositoryClient, model: str) -> set[int]:
    return {number for number, each in (await _settled(client, model)).items() if each.state == READY}


def client_of(settings: Settings) -> RepositoryClient:
    """A client for an operator's calls to Triton."""
    triton = settings.triton
    return RepositoryClient(
        triton.url,
        admin_key=triton.admin_key.get_secret_value(),
        deadline_s=triton.deadline_s,
        load_timeout_s=triton.load_timeout_s,
        tls=construction.triton_tls(settings),
    )
