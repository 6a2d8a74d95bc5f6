"""How it is trained: worktrees, torchrun on one or more nodes, and what the ranks need."""
