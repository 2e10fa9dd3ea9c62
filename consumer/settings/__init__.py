"""Every setting of the service: its name, type, default and meaning. Environment over file over default.

`TAGGER_KAFKA__BOOTSTRAP_SERVERS` sets `kafka.bootstrap_servers`; the file is `tagger.toml` in the working directory or
the one in `TAGGER_CONFIG`. `TAGGER_REDIS__URL_FILE` names a file that holds the value of `redis.url`. Unknown keys are
errors: a misspelt setting must not mean its default.
"""

from consumer.settings.environment import variable_of
from consumer.settings.loading import Row, Settings, load, located, made_of, mask_url, rows
from consumer.settings.sections import FetchSettings, HealthSettings, KafkaSettings, ServiceSettings

__all__ = [
    "FetchSettings",
    "HealthSettings",
    "KafkaSettings",
    "Row",
    "ServiceSettings",
    "Settings",
    "load",
    "located",
    "made_of",
    "mask_url",
    "rows",
    "variable_of",
]
