"""``python -m titan_migrate``, where titan-migrate is installed."""

from . import main

main()
