"""What changes: source text and facts in, edits and findings out.

Nothing here reads a disk, runs git, imports torch or prints. ``survey`` finds out
what a checkout is, ``rules`` holds one file per rule, ``engine`` runs them.
"""
