"""`python -m dynamo` is the command `dynamo`."""

from dynamo.cli import main

main()
