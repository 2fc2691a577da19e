"""What tests share: launchers, clients, storage doubles."""
