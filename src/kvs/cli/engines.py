"""``kvs engines``."""

from typing import TYPE_CHECKING

import click

from kvs.cli.table import echo_table
from kvs.config import OPTION_FLAG, ConfigError, option_variable
from kvs.setting import settings_of

if TYPE_CHECKING:
    from kvs.engine import EngineSpec


@click.command()
@click.argument("name", required=False)
def engines(name: str | None) -> None:
    """List installed storage engines, or describe one and its options."""
    from kvs import engines as installed

    if name is None:
        _list()
        return
    engine = installed.get(name)
    click.echo(engine.summary)
    click.echo(", ".join(f"{trait}: {value}" for trait, value in _traits(engine).items()))
    for option in settings_of(engine.options).values():
        click.echo(f"\n{option.name}: {option.description}")
        click.echo(f"  {option.allowed} [default: {option.format(option.default) or 'none'}]")
        click.echo(f"  {OPTION_FLAG} {option.name}=..., {option_variable(name, option.name)}, [storage.{name}]")


def _list() -> None:
    from kvs import engines as installed

    rows: list[tuple[str, ...]] = [("NAME", "DURABLE", "SHARED", "BLOCKING", "")]
    for name in installed.names():
        try:
            engine = installed.get(name)
        except ConfigError as error:
            rows.append((name, "?", "?", "?", str(error)))
        else:
            rows.append((name, *_traits(engine).values(), engine.summary))
    echo_table(rows)


def _traits(engine: "EngineSpec") -> dict[str, str]:
    traits = {"durable": engine.durable, "shared": engine.shared, "blocking": engine.blocking}
    return {name: "yes" if trait else "no" for name, trait in traits.items()}
