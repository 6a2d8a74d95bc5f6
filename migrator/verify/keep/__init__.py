"""Runs of the base revision that are kept from one verify to the next: in the user's cache, or in a file. No torch."""
