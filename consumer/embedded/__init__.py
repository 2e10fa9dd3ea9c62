"""Real servers as child processes, for a laptop and for tests: Kafka, Redis, Triton and a photo host.

`servers.start_stack` starts all of them, `servers.Servers` one by one. `guardian` is the small process that stops the
servers and removes what they leave, however their owner ends.
"""
