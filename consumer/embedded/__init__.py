"""Real servers as child processes, for a laptop and for tests: Kafka, Redis, Triton and a photo host.

Enter by `stack.start_stack` (all of them at once) or `servers.Servers` (one by one). `guardian` is the small process
that makes sure that nothing is left behind, however the owner ends.
"""
