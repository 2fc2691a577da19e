"""What the application offers (inbound) and what it needs (storage), as protocols."""
