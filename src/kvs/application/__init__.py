"""Use cases: a client's session over the pure core and the storage port."""
