"""How a plan is rehearsed: what is asked of a fake world, what came out of each tree, and how the two agree."""
