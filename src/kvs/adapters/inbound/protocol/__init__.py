"""What every protocol shares. Nothing here knows a socket."""
