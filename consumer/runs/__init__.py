"""Runs: photos rescored under a candidate, what it answered, and how that differs from the tags in force. Pure."""
