"""Random networks, their exact values, and checks of bounds against them; shared by the tests and scripts/soundness.py."""
