"""Looks whether everything that the service needs is there and as it should be; `examine` is the whole of it."""
