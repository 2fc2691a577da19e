"""The parts that all protocols share, independent of sockets."""
