"""The public face: HTTP in, contract calls out; sees contracts only."""
