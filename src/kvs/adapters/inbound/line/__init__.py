"""The line protocol: one request a line, one line of JSON back."""
