"""`python -m primis.cli`."""

from primis.cli.main import main

main()
