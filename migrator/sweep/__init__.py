"""Many trees in one run: every branch and fork of an organisation, read from git's objects."""
