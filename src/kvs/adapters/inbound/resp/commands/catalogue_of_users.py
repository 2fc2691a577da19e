"""The part of the table of commands that is about users."""

from typing import Final

TABLE: Final = """
auth | -2 | 1.0.0 | connection | noscript loading stale fast no_auth allow_busy | connection |
    Says who the client is.
acl | -2 | 6.0.0 | server |  |  |
    Describes and changes users.
acl|cat | -2 | 6.0.0 | server | noscript loading stale |  |
    Lists the categories of commands, or the commands of one.
acl|deluser | -3 | 6.0.0 | server | admin noscript loading stale |  |
    Removes users, and closes their connections.
acl|dryrun | -4 | 7.0.0 | server | admin noscript loading stale |  |
    Tells whether a user may run a command, without running it.
acl|genpass | -2 | 6.0.0 | server | noscript loading stale |  |
    Returns a random secret.
acl|getuser | 3 | 6.0.0 | server | admin noscript loading stale |  |
    Describes a user.
acl|help | 2 | 6.0.0 | server | loading stale |  |
    Lists the subcommands.
acl|list | 2 | 6.0.0 | server | admin noscript loading stale |  |
    Describes all users, as rules.
acl|load | 2 | 6.0.0 | server | admin noscript loading stale |  |
    Is refused: SIGHUP has the file read.
acl|log | -2 | 6.0.0 | server | admin noscript loading stale |  |
    Returns what has been refused lately, or forgets it.
acl|save | 2 | 6.0.0 | server | admin noscript loading stale |  |
    Does nothing: every change is saved at once.
acl|setuser | -3 | 6.0.0 | server | admin noscript loading stale |  |
    Changes or makes a user.
acl|users | 2 | 6.0.0 | server | admin noscript loading stale |  |
    Lists the names of users.
acl|whoami | 2 | 6.0.0 | server | noscript loading stale |  |
    Returns who the client is.
"""
