"""What runs inside a rehearsing process: torch, the tree under test, and nothing else of titan-migrate but `in_rank`."""
