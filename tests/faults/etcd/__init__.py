"""Several servers over etcd, whose members, processes and connections fail under load."""
