"""Files of deploy/, and what they name of kvs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kvs.config import CONFIG_FILE_VARIABLE, Configuration, Settings, load
from tests.documents.commands import check_kvs, check_variable
from tests.documents.markdown import ROOT

DEPLOY: Final = ROOT / "deploy"

KVS: Final = re.compile(r"(?:/opt/kvs/bin/)?kvs")


def check_command(where: str, words: list[str]) -> None:
    """Check that a command is one of kvs, with options that there are."""
    assert words, where
    assert KVS.fullmatch(words[0]), f"{where}: {words[0]} is not kvs"
    check_kvs(where, words[1:])


def check_settings_file(where: str, text: str, directory: Path) -> Settings:
    """Check that a server takes a file of settings, and all that is in it; return the settings."""
    path = directory / "kvs.toml"
    path.write_text(text, encoding="utf-8")
    configuration = load({"config": str(path)}, {})
    assert str(path) in configuration.origins.values(), where
    return configuration.settings


def check_environment(where: str, variables: Mapping[str, str], file: str = "") -> Configuration:
    """Check that each variable of kvs is one of a setting, and that all are taken together; return what they make.

    Args:
        where: Where the variables are set.
        variables: All variables.
        file: A file of settings beside them.
    """
    ours = {name: value for name, value in variables.items() if name.startswith("KVS_")}
    for name in ours:
        check_variable(where, name)
    ours.pop(CONFIG_FILE_VARIABLE, None)
    configuration = load({"config": file}, ours)
    assert not configuration.unknown_variables, f"{where}: {configuration.unknown_variables}"
    return configuration
