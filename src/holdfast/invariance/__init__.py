"""Sets that a closed loop never leaves: conditions, how they are proved, how sets are found."""
