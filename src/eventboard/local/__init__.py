"""Development and tests only: what starts an EventBoard on a machine that has nothing."""
