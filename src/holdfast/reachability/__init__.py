"""What a closed loop does over a horizon: claims about trajectories, flow tubes that prove them, trajectories that refute them."""
