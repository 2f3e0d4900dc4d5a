"""Settings for all tests: float64 on JAX, as in every rigorous computation."""

import jax

jax.config.update("jax_enable_x64", True)
