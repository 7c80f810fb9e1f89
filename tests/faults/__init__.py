"""What a client sees when a part is slow, down, restarting or lying: `make test-faults`."""
