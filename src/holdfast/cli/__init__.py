"""The `holdfast` command: one file per verb. Nothing heavy is imported before a verb needs it."""
