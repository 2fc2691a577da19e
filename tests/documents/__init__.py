"""What the documents say is what happens: every block is replayed, every table and link compared with what there is."""
