"""What docs/api.md promises, over HTTP, from whatever shape is deployed."""
