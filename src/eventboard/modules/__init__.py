"""The modules; none imports another."""
