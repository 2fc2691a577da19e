"""Which build this is: the hot modules compiled by mypyc, or all of it pure Python."""

from typing import Final

from kvs.domain import values

BUILD: Final = "pure" if values.__file__.endswith(".py") else "compiled"
