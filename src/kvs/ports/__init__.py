"""The application's ports: sessions (inbound) and storage (outbound)."""
