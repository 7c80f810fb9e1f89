"""The public operations, a controller for each part of the API."""
