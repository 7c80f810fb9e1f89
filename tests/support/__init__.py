"""What tests stand on: one PostgreSQL for a run, real server processes, a client with accounts."""
