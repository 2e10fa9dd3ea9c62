"""model.py of the versions that gpu-check serves: the backend that is published, with one more engine to choose from.

The published file stands beside this one as published.py. Triton's stub imports both.
"""

import json
import sys

import published


class TritonPythonModel(published.TritonPythonModel):
    """As published, but for the engines of benchmarks/gpu/engines.py."""

    def initialize(self, args: dict[str, str]) -> None:
        """Adds the engines, whose packages PACKAGES names: behind the stub's own, which may need an older numpy."""
        sys.path += json.loads(args["model_config"])["parameters"]["PACKAGES"]["string_value"].split(":")
        from benchmarks.gpu.engines import ENGINES  # noqa: PLC0415 - found only now

        published._ENGINES.update(ENGINES)  # noqa: SLF001 - the published file has no use for more
        super().initialize(args)
