"""Writes TOML; Python reads it only."""

import json


def toml_string(text: str) -> str:
    """Return a string in TOML, which has the escapes of JSON and one for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
