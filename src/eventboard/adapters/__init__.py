"""Serve and call any contract; name none."""
