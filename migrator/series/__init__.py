"""A migration as commits: on a branch, or as patches for `git am`."""
