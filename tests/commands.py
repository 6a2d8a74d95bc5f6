"""The command line as the tests call it."""

from click.testing import CliRunner

from migrator.cli import main


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
