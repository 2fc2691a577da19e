"""Whether what many clients of a server have seen is strictly serializable.

``workload`` drives servers and writes down a ``history``; ``checker`` looks for anomalies in it. Neither knows anything
of the server but its protocols.
"""
