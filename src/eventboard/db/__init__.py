"""PostgreSQL: connections, transactions, statements and migrations; knows no module's tables."""
