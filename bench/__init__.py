"""What measures EventBoard: `python -m bench`; see README.md."""
