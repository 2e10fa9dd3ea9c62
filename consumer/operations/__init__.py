"""Jobs that an operator starts: replay, dead letters, rebuild, sweep, check."""
