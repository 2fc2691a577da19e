"""Everything that touches the outside: protocols, transports and storage engines."""
