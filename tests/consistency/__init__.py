"""Whether real servers are strictly serializable, and whether that would be found out if they were not."""
