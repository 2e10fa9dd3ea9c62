"""`python -m consumer.cli`."""

from consumer.cli.main import main

main()
