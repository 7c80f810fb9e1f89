"""Every deployment shape beside every other."""
