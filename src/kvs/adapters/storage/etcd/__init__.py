"""The client of etcd: gRPC over one's own HTTP/2, so that etcd needs no package beyond the standard library."""
