"""What every part stands on; knows nothing of accounts or events."""
