"""The running service: construction, run and drain, admission, health, workers."""
