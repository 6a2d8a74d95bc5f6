"""What the messages of the commits say."""

from branched import commit
from releases import git


def test_what_the_messages_say(fork):
    base = git(fork, "rev-parse", "HEAD").strip()
    commit(fork)
    first, last = git(fork, "log", "--reverse", "-z", "--format=%B", "main..").split(
        "\0"
    )[:2]
    for message in (first, last):
        lines = message.splitlines()
        assert len(lines[0]) <= 72 and lines[1] == ""
        assert all(len(line) <= 72 for line in lines)
        assert "https://github.com/pytorch/torchtitan/pull/2458" in message
        assert "titan-migrate verify" in message
        assert message.rstrip("\n").endswith(f"\n\nTitan-Migrate-Base: {base}")
    assert "- TM101 apply_ddp becomes apply_replicate: 3" in first
    assert "TM106" in last and "TM106" not in first and "TM101" not in last
    # What is left for a person stands with what made it so.
    assert (
        "- TM201 weights tied after wrapping (silent hazard):\n  torchtitan/models/qwen3"
        in first
    )
    assert "TM201" not in last
    for message in (first, last):
        assert "\n\nReview notes:\n- " in message and "trains both" in message
    assert "PR 2900, which" in first and "- Precision: " in first
    assert "PR 2900" not in last and "- Precision: " not in last
