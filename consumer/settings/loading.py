"""Loading of the settings: environment over file over defaults, with clear errors; and listing them."""

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from consumer.errors import SettingsError
from consumer.settings.environment import PREFIX, is_setting, set_by, variable_of, with_files
from consumer.settings.sections import (
    DedupeSettings,
    FetchSettings,
    GateSettings,
    HealthSettings,
    HostSettings,
    KafkaSettings,
    LogSettings,
    PrepareSettings,
    RedisSettings,
    RegistrySettings,
    RetrySettings,
    ServiceSettings,
    TracingSettings,
    TritonSettings,
    WebSettings,
)
from consumer.settings.values import by_whole_names

CONFIG_VARIABLE: Final = "TAGGER_CONFIG"
DEFAULT_FILE: Final = Path("tagger.toml")
#: Variables with this prefix that are not settings: the file, the embedded servers, and the mark of a worker.
_OTHER_VARIABLES: Final = frozenset(
    {CONFIG_VARIABLE, "TAGGER_SERVERS_ENV", "TAGGER_CACHE_DIR", "TAGGER_EMBEDDED_RUN", "TAGGER_WORKER"}
)
#: The names of properties and options whose values are secrets; a place of a file is none.
_SECRET: Final = re.compile(
    r"(password|secret|key|token|credential|jaas|authorization)(?!.*\.location$)", re.IGNORECASE
)


class Settings(BaseSettings):
    """All settings. Build one with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    redis: RedisSettings = RedisSettings()
    dedupe: DedupeSettings = DedupeSettings()
    gates: GateSettings = GateSettings()
    triton: TritonSettings = TritonSettings()
    fetch: FetchSettings = FetchSettings()
    hosts: HostSettings = HostSettings()
    prepare: PrepareSettings = Field(default_factory=PrepareSettings)
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    retry: RetrySettings = RetrySettings()
    health: HealthSettings = HealthSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class passes everything
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over what `load` passes in from the file; no .env file, no secrets folder."""
        if isinstance(env_settings, EnvSettingsSource):
            given = with_files(os.environ, _known())
            env_settings.env_vars = {name.lower(): value for name, value in given.items()}
        return env_settings, init_settings


class _Given(Settings):
    """Settings of what they are made with, and of nothing around them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class passes everything
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What it is made with."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, for `photo-tagger config`."""

    name: str
    value: str
    origin: str
    description: str


def load() -> Settings:
    """The settings in force, from the process's environment and the file.

    Raises:
        SettingsError: the file cannot be read, or a key or a value is wrong; the message names it.
    """
    environ = os.environ
    _refuse_unknown_variables(environ)
    try:
        return Settings(**_from_file(environ)[1])
    except ValidationError as error:
        faults = [_fault(entry, environ) for entry in error.errors(include_url=False, include_input=False)]
    except UnreadableVariable as error:
        # Its own words name no variable; that of the value that is no JSON is found by the value.
        text = getattr(error.__cause__, "doc", None)
        texts = with_files(environ, _known())
        names = (name for name in environ if name.upper().startswith(PREFIX) and _text(name, texts) == text)
        faults = [f"{next(names, PREFIX + '*')}: it is no JSON: {error.__cause__}"]
    raise SettingsError(f"settings are wrong: {'; '.join(dict.fromkeys(faults))}")


def made_of(variables: Mapping[str, str]) -> Settings:
    """The settings that these variables make, whatever this process has in its environment and its file.

    For values that are no tables.

    Raises:
        ValidationError: a name or a value is wrong.
    """
    sections = defaultdict[str, Any](dict)
    for variable, value in variables.items():
        section, _, name = variable.removeprefix(PREFIX).lower().partition("__")
        sections[section][name] = value
    return _Given(**sections)


def rows(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Row]:
    """Every setting in order, with its origin and secrets masked."""
    path, from_file = _from_file(environ)
    shown = []
    for section_name, section in settings:
        for name, field in type(section).model_fields.items():
            if variables := _variables(variable_of(f"{section_name}.{name}"), environ):
                origin = f"environment {', '.join(map(str.upper, variables))}"
            elif name in from_file.get(section_name, {}):
                origin = f"file {path}"
            else:
                origin = "default"
            value = _masked(getattr(section, name))
            shown.append(Row(f"{section_name}.{name}", value, origin, field.description or ""))
    return shown


def located(setting: str, detail: str, environ: Mapping[str, str] = os.environ) -> str:
    """What is wrong with a setting, such as `kafka.group_id` or `kafka.extra.client.rack`, and where it is set.

    Raises:
        SettingsError: the file cannot be read.
    """
    return f"{setting} (from {_places(setting.split('.', 2), detail, environ)}): {detail}"


def mask_url(url: str) -> str:
    """The URL with its password hidden, for logs."""
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", re.sub(r"(://[^/@:]*:).*@", r"\1***@", url))


def _masked(value: object) -> str:
    if isinstance(value, dict):
        shown = {
            key: "***" if _SECRET.search(key) and not isinstance(entry, dict) else _masked(entry)
            for key, entry in value.items()
        }
        return ", ".join(f"{key}={entry}" if entry else key for key, entry in shown.items())
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    return "" if value is None else mask_url(str(value))


def _from_file(environ: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else DEFAULT_FILE
    if not named and not path.is_file():
        return None, {}
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise SettingsError(f"settings file {path}: it is not UTF-8") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"settings file {path}: {error}") from None


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = _known()
    for variable in map(str.upper, environ):
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if not is_setting(set_by(variable, known), known):
            raise SettingsError(f"unknown setting {variable} in the environment; `photo-tagger config` lists all")


@cache
def _known() -> frozenset[str]:
    """The variables of all settings."""
    return frozenset(
        variable_of(f"{section}.{name}")
        for section, field in Settings.model_fields.items()
        for name in getattr(field.annotation, "model_fields", ())
    )


def _fault(entry: ErrorDetails, environ: Mapping[str, str]) -> str:
    """What is wrong with one setting, and where it is set."""
    path = [str(part) for part in entry["loc"]]
    what = "unknown setting" if entry["type"] == "extra_forbidden" else entry["msg"].removeprefix("Value error, ")
    return f"{'.'.join(path)} (from {_places(path, what, environ)}): {what}"


def _places(path: Sequence[str], detail: str, environ: Mapping[str, str]) -> str:
    """Where a setting is set: the variables, as they are written, and the file.

    `path` is its section, its name and, of a table, the key. Without one, those count that the detail names.
    """
    file, table = _from_file(environ)
    given: Any = table
    for part in path[:2]:
        given = given.get(part) if isinstance(given, dict) else None
    variable = variable_of(".".join(path[:2]))
    texts = with_files(environ, _known())
    found = {}
    for name in _variables(variable, environ):
        setting = set_by(name, _known())
        key = setting[len(variable) + 2 :].lower().replace("__", ".")
        found[name] = {key} if key else _keys(_text(name, texts))
    # Tables of the file and of the environment are put together; of anything else the environment counts.
    if given is not None and (isinstance(given, dict) or not found):
        found[str(file)] = _names(given)
    wanted = path[2:3] or [key for keys in found.values() for key in keys if key in detail]
    return ", ".join([place for place, keys in found.items() if keys.intersection(wanted)] or found) or "the defaults"


def _text(variable: str, texts: Mapping[str, str]) -> str:
    """What a variable gives to its setting: its value, or what the file says that it names."""
    return texts.get(variable) or texts.get(set_by(variable, _known()), "")


def _keys(text: str) -> set[str]:
    """The keys of a table in JSON, as `_names`."""
    try:
        return _names(orjson.loads(text))
    except ValueError:
        return set()


def _names(table: object) -> set[str]:
    """The keys of a table and of the tables in it; none where it is no table."""
    return {*table, *by_whole_names(table)} if isinstance(table, dict) else set()


def _variables(variable: str, environ: Mapping[str, str]) -> list[str]:
    """The variables that set a setting or parts of it; case does not matter."""
    known = _known()
    return [name for name in environ if f"{set_by(name, known)}__".startswith(f"{variable}__")]
