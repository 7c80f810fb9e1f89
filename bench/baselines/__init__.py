"""What EventBoard is measured against."""
