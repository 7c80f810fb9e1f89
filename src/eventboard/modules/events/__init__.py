"""Events: their life, their rights, their listing."""
