"""How a verification is told: on the terminal, in a report, as curves."""
