"""The gateway's own parts."""
