"""A client of etcd 3.4 and newer: gRPC over HTTP/2, and which failures are definite."""
