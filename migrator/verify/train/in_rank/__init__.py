"""What runs inside each rank, in the environment that the checkout trains in."""
