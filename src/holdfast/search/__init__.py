"""Search: attack, split, optimise; ends in a `Result`."""
