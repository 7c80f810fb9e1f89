"""Words that every part of EventBoard speaks: contracts, errors, the request's context."""
