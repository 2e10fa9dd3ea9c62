"""Serves a folder of photos in a process of its own, so that its CPU time counts for nobody: `photo_host FOLDER`."""

import signal
import sys
from pathlib import Path

from consumer.embedded.photos import PhotoHost

with PhotoHost(Path(sys.argv[1])) as host:
    print(host.base_url, flush=True)
    signal.pause()
