"""The options of every command that talks to a server: where it is, in TLS or not, and as whom."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from kvs.cli.options import help_of
from kvs.config import SETTINGS, ConfigError, Configuration

if TYPE_CHECKING:
    from kvs.dump.access import Access

F = TypeVar("F", bound=Callable[..., Any])

PLACE: Final = {
    "host": help_of("host", "address or name of the server"),
    "port": help_of("port", "port of the server"),
}
"""Settings that say where a server is."""

_FILES: Final = {
    "password_file": "File with the secret of that user.",
    "tls_ca_file": "Certificates of whom to trust. [default: those of the system]",
    "tls_cert_file": "Certificate to show to a server that asks for one.",
    "tls_key_file": "Key of that certificate. [default: in the same file]",
    "unix_socket": "Path of the server's Unix socket, in place of host and port.",
}
_TLS_FLAGS: Final = ("tls_ca_file", "tls_cert_file", "tls_key_file")


def with_access(command: F) -> F:
    """Give a command the options."""
    for name, text in reversed(_FILES.items()):
        command = click.option(SETTINGS[name].flag, name, metavar="FILE", help=text)(command)
    command = click.option("--tls", is_flag=True, help="Connect in TLS, as each of the --tls options implies.")(command)
    return click.option("--user", metavar="NAME", help="User to be. [default: default]")(command)


def access_of(configuration: Configuration, given: Mapping[str, Any]) -> "Access":
    """Return what the options say.

    The files of whom to trust and with the secret may come from the environment or a file of settings, too. The others
    mean something else there, to a server.

    Raises:
        ConfigError: They contradict each other, or a file cannot be used.
        TlsFileError: Likewise, if it is one of certificates.
    """
    from kvs.dump.access import Access

    settings = configuration.settings
    flags = [name for name in _FILES if configuration.origins[name] == SETTINGS[name].flag]
    if "unix_socket" in flags:
        for name in PLACE:
            if configuration.origins[name] == SETTINGS[name].flag:
                raise ConfigError(f"unix_socket: --unix-socket and --{name} name different servers; give one of them")
    elif settings.port == 0:
        raise ConfigError("port: 0 is for a server, which then picks one; give the one it listens on")
    tls = None
    if given.get("tls") or any(name in flags for name in _TLS_FLAGS):
        if "unix_socket" in flags:
            raise ConfigError("unix_socket: there is no TLS at a Unix socket; leave out --tls and its files")
        from kvs.adapters.inbound.net.certificates import client_context

        cert_file = settings.tls_cert_file if "tls_cert_file" in flags else ""
        key_file = settings.tls_key_file if "tls_key_file" in flags else ""
        if key_file and not cert_file:
            raise ConfigError("tls_key_file: needs tls_cert_file, which is not given")
        tls = client_context(settings.tls_ca_file, cert_file, key_file)
    secret = b""
    if settings.password_file:
        from kvs.secret_files import read_secret

        secret = read_secret(settings.password_file, "password_file")
    unix_socket = settings.unix_socket if "unix_socket" in flags else ""
    return Access(unix_socket, tls, given.get("user") or "", secret)
