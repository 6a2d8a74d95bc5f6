"""``python -m migrator``, in a clone."""

from migrator.cli import main

main(prog_name="titan-migrate")
