"""The environment of the process: variables of settings, and variables that name a file that holds one.

`TAGGER_REDIS__URL_FILE=/run/secrets/redis-url` sets `redis.url` to what that file says: so secrets stay out of the
environment, which every child process inherits and which tools show.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from consumer.errors import SettingsError

PREFIX: Final = "TAGGER_"
#: Before the name of a property of librdkafka.
EXTRA: Final = f"{PREFIX}KAFKA__EXTRA__"
#: Behind a variable: it names a file that holds the value.
FILE: Final = "_FILE"


def variable_of(name: str) -> str:
    """The environment variable of a setting such as `kafka.group_id`."""
    return PREFIX + name.upper().replace(".", "__")


def is_setting(variable: str, known: Collection[str]) -> bool:
    """Whether a variable sets a setting; `known` are those of all settings, in upper case as the variable is."""
    return variable in known or (variable.startswith(EXTRA) and variable != EXTRA)


def set_by(variable: str, known: Collection[str]) -> str:
    """The variable whose value this one gives, in upper case: itself, or that of which it names a file."""
    name = variable.upper()
    setting = name.removesuffix(FILE)
    return setting if name not in known and is_setting(setting, known) else name


def with_files(environ: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """The environment, with what their files say in place of the variables that name files.

    Raises:
        SettingsError: a file cannot be read or says nothing, or its setting has a value of its own.
    """
    given, variables = dict(environ), {name.upper(): name for name in environ}
    for name, path in environ.items():
        setting = set_by(name, known)
        if setting == name.upper():
            continue
        if setting in variables:
            raise SettingsError(f"{variables[setting]} and {name} are both set: leave one of them out")
        del given[name]
        given[setting] = _said_by(name, Path(path))
    return given


def _said_by(variable: str, path: Path) -> str:
    """What a file says, without the line ends behind it.

    Raises:
        SettingsError: as `with_files`; nothing of its content is in the message.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: the file {path} is not UTF-8") from None
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{variable}: cannot read {path}: {told}") from None
    if not text:
        raise SettingsError(f"{variable}: the file {path} is empty")
    return text
