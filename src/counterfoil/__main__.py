"""`python -m counterfoil` is `counterfoil`."""

from counterfoil.cli.main import main

main()
