"""RESP, the protocol of Redis clients: arrays of bulk strings in, typed replies out."""
