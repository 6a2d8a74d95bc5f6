"""What becomes of a command whose stdout or stderr cannot be written to, and what turns on a terminal."""

import subprocess
import sys

from reviewed import fork


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m migrator.cli report {fork(tmp_path)} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr
