"""Accounts, organizations, memberships, tokens."""
