"""Where users are saved."""
