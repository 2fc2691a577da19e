"""The admin port: HTTP for those who watch a server. Imported only if there is one."""
