"""``kvs users``: makes what a users file needs, and checks one."""

import sys

import click

from kvs.cli.options import path_argument


@click.group()
def users() -> None:
    """Make hashes and tokens for a users file, and check it."""


@users.command("hash")
@path_argument("file", required=False)
def make_hash(file: str | None) -> None:
    """Print the hash of a password, for the passwords of a users file.

    The password is read from FILE, without a newline at its end; without FILE from the terminal, twice and without an
    echo, or else from standard input.
    """
    from kvs.application.secret_hashes import hash_password
    from kvs.secret_files import read_secret

    if file is None and sys.stdin.isatty():
        typed = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
        secret = typed.encode("utf-8", "surrogateescape")
    else:
        secret = read_secret("/dev/stdin" if file is None else file, "password")
    click.echo(hash_password(secret))


@users.command("token")
def make_token() -> None:
    """Print a new token, for a client, and its hash, for the tokens of a users file."""
    from kvs.application.secret_hashes import hash_token, new_token

    token = new_token()
    click.echo(f"token   {token}\nsha256  {hash_token(token.encode())}")


@users.command("check")
@path_argument("file")
def check(file: str) -> None:
    """Check a users file as a server does, and print the names of its users."""
    from kvs.adapters.users.file import UsersFile
    from kvs.security import command_names

    for name, account in sorted(UsersFile(file, command_names()).load().items()):
        click.echo(name if account.enabled else f"{name} (off)")
