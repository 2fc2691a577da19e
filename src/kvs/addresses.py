"""What can be said of an address without asking the network."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address; of names, only ``localhost`` is known to be such."""
    from ipaddress import ip_address  # noqa: PLC0415  # 2 ms of each command

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
