"""One setting: how its text is parsed and formatted, and how it is described; all from its field in a table."""

from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from kvs.environment import PREFIX, expand_home
from kvs.quantities import (
    SIZE_UNITS,
    TIME_UNITS,
    format_size,
    format_time,
    parse_number,
    parse_size,
    parse_time,
    parse_whole,
)

_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_PATHS: Final = ("_dir", "_file", "_log", "_path", "_socket")
_BLANKS: Final = " \t\r\n"


class Setting(msgspec.Struct, frozen=True):
    """One field of a table of settings or options, such as :class:`kvs.config.Settings`."""

    name: str
    type: Any
    description: str
    default: Any

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def kind(self) -> Any:
        return get_args(self.type)[0]

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values, if they are listed."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def repeatable(self) -> bool:
        return get_origin(self.kind) is tuple

    @property
    def is_size(self) -> bool:
        return self.kind is int and self.name.endswith("_bytes")

    @property
    def is_time(self) -> bool:
        return self.kind in (int, float) and self.name.endswith("_s")

    @property
    def metavar(self) -> str:
        """The placeholder of a value in the help."""
        if self.choices:
            return "|".join(self.choices)
        return "SIZE" if self.is_size else "TIME" if self.is_time else "VALUE"

    @property
    def is_path(self) -> bool:
        return self.kind is str and self.name.endswith(_PATHS)

    def format(self, value: Any) -> str:
        """Return the text of a value, in the form in which it can be given."""
        if self.repeatable:
            return ",".join(map(str, value))
        if self.is_size:
            return format_size(value)
        if self.is_time:
            return format_time(value)
        return str(value).lower() if self.kind is bool else str(value)

    def parse(self, text: str) -> object:
        """Return the value of a text; the text itself, to be refused, if it is not valid.

        Raises:
            ValueError: It is a path with an unknown home directory, or contains a NUL.
        """
        if "\0" in text:
            raise ValueError("it contains a NUL")
        if self.is_path:
            return expand_home(text)
        if self.kind is str:
            return text
        stripped = text.strip(_BLANKS)
        value: Any = None
        if self.choices:
            meant = _BOOLEANS.get(stripped.lower()) if "true" in self.choices else None
            word = stripped.lower() if meant is None else str(meant).lower()
            value = next((choice for choice in self.choices if str(choice).lower() == word), None)
        elif self.kind is bool:
            value = _BOOLEANS.get(stripped.lower())
        elif self.is_size:
            value = parse_size(stripped)
        elif self.is_time:
            value = parse_time(stripped)
            if self.kind is int and value is not None and value.is_integer():
                value = int(value)
        elif self.kind is int:
            value = parse_whole(stripped)
        elif self.kind is float:
            value = parse_number(stripped)
        return text if value is None else value

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.repeatable:
            return "one or more addresses or names"
        if self.kind is bool:
            return "true or false"
        if self.kind is not int and self.kind is not float:
            return "a path" if self.is_path else "three octal digits" if self.name.endswith("_mode") else "a name"
        words = "a whole number" if self.kind is int else "a number"
        if self.is_size:
            words += f" of bytes, or with a unit {SIZE_UNITS},"
        elif self.is_time:
            words += f" of seconds, or with a unit {TIME_UNITS},"
        meta = get_args(self.type)[1]
        if meta.ge is not None:
            words += f" from {self.format(meta.ge)}"
        if meta.le is not None:
            words += f" to {self.format(meta.le)}"
        return words


def settings_of(table: type[msgspec.Struct]) -> dict[str, Setting]:
    """Return the fields of a table by name; each has a default, and a description in its ``Meta``."""
    hints = get_type_hints(table, include_extras=True)
    return {
        name: Setting(name, hint, get_args(hint)[1].description, default)
        for (name, hint), default in zip(hints.items(), table.__struct_defaults__, strict=True)
    }
