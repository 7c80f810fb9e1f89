"""The public routes, a file for each part of the API."""
