"""What the `eventboard` commands do, but for those of development."""
