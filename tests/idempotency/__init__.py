"""Exactly once, when much happens at once and when things break."""
