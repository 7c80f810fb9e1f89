"""Development only: embedded PostgreSQL, `make run`, `make services`, demo data."""
