"""The tables of the documents are those of the program: settings, options, events, errors, figures, commands."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Final

import msgspec
import pytest

from kvs import engines
from kvs.adapters.inbound.line.commands import COMMANDS as LINE_COMMANDS
from kvs.adapters.storage.etcd.options import EtcdOptions
from kvs.adapters.storage.sqlite.engine import SqliteOptions
from kvs.config import SETTINGS
from kvs.domain import errors
from kvs.setting import Setting, settings_of
from kvs_wholefile import WholeFileOptions
from tests.contract.broken_engines import FAULTS
from tests.documents.events import logged_events
from tests.documents.markdown import ROOT, Row, codes, document
from tests.support.etcd import need_etcd, running_cluster
from tests.support.etcd_server import EtcdServer
from tests.support.harness import Server, run_to_end
from tests.support.line_client import Client
from tests.support.resp_wire import Reply, Typed, Wire
from tests.support.secured import server_flags

pytestmark = pytest.mark.one_build

README: Final = document("README.md")
ARCHITECTURE: Final = document("docs/architecture.md")
CONFIGURATION: Final = document("docs/configuration.md")
ENGINES: Final = document("docs/engines.md")
OPERATIONS: Final = document("docs/operations.md")
PROTOCOL: Final = document("docs/protocol.md")

PLACES_OF_TESTS: Final = ("tests", "src/kvs/testing")
"""Where the modules of the table of planted faults are."""

UNITS: Final = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
NUMBER: Final = re.compile(r"(-?[\d,]+)(?: (s|KiB|MiB|GiB))?(?: \((.+)\))?")


def check_default(row: Row, setting: Setting) -> None:
    """Check the default in a row: a text in code, a number with its unit, and what 0 means where it means something."""
    shown, default = row.cells["default"], setting.default
    number = NUMBER.fullmatch(shown)
    if isinstance(default, bool):
        assert shown == f"`{setting.format(default)}`", f"{row.where}: {setting.name} is {default} if not set"
        return
    if isinstance(default, str | tuple):
        expected = (default if isinstance(default, str) else ", ".join(default)) or "none"
        said = re.split("; ", shown)[0].strip("`")  # what it depends on may follow
        assert said == expected, f"{row.where}: {setting.name} is {expected!r} if not set, not {shown}"
        return
    if number is None:
        number = NUMBER.fullmatch(shown.strip("`"))
    assert number is not None, f"{row.where}: the default of {setting.name} is no number: {shown}"
    value = int(number[1].replace(",", "")) * UNITS[number[2] or ""]
    assert value == default, f"{row.where}: {setting.name} is {default} if not set, not {shown}"
    zero = re.search(r"0: (.+)$", setting.description)
    if value == 0 and zero is not None:
        assert number[3] == zero[1], f"{row.where}: 0 means {zero[1]!r} for {setting.name}, not {number[3]!r}"


def clauses(description: str) -> Iterator[str]:
    """Return what a description says, but for what 0 means, and for what happens at a limit."""
    for clause in description.split("; "):
        if not clause.startswith(("0: ", "beyond it", "one more")):
            yield clause


def check_settings(rows: list[Row], meaning: str, table: Mapping[str, Setting]) -> set[str]:
    """Check the rows of settings; return their names."""
    names = set()
    for row in rows:
        (name,) = codes(row.cells[next(iter(row.cells))])
        assert name in table, f"{row.where}: there is no {name}"
        names.add(name)
        check_default(row, table[name])
        text = row.cells[meaning].replace("`", "")
        for clause in clauses(table[name].description):
            assert clause in text, f"{row.where}: kvs --help says of {name} {clause!r}, and the table {text!r}"
        for choice in table[name].choices if len(table[name].choices) > 1 and meaning == "meaning" else ():
            assert f"`{choice}`" in row.cells[meaning], f"{row.where}: {name} may be {choice}, too"
    return names


def test_every_setting_is_in_the_table() -> None:
    """With its default, and with what ``--help`` says that it means; and no other is."""
    tables = (
        (CONFIGURATION.table("setting", "default", "meaning"), "meaning"),
        (CONFIGURATION.table("setting", "default", "what it bounds", "what happens there"), "what it bounds"),
    )
    names = [check_settings(rows, meaning, SETTINGS) for rows, meaning in tables]
    assert not names[0] & names[1]
    missing = SETTINGS.keys() - names[0] - names[1]
    assert not missing, f"docs/configuration.md: no row for {', '.join(sorted(missing))}"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("docs/engines.md", SqliteOptions),
        ("docs/cluster.md", EtcdOptions),
        ("examples/kvs-wholefile/README.md", WholeFileOptions),
    ],
)
def test_every_option_of_an_engine_is_in_its_table(path: str, options: type[msgspec.Struct]) -> None:
    """With its default, and no other is."""
    table = settings_of(options)
    rows = document(path).table("option", "default", "meaning")
    for row in rows:
        (name,) = codes(row.cells["option"])
        assert name in table, f"{row.where}: there is no option {name}"
        check_default(row, table[name])
        begin = re.split("[;.]", table[name].description)[0]
        text = row.cells["meaning"].replace("`", "")
        assert text.startswith(begin), f"{row.where}: kvs engines says of {name} {begin!r}, and the table {text!r}"
    assert {codes(row.cells["option"])[0] for row in rows} == table.keys(), path


def test_every_engine_is_in_the_table() -> None:
    """Those that come with kvs; the table names the default."""
    rows = ENGINES.table("engine", "keeps data", "choose it for")
    assert {codes(row.cells["engine"])[0] for row in rows} == engines.BUILT_IN.keys()
    for row in rows:
        is_default = codes(row.cells["engine"]) == [SETTINGS["storage"].default]
        assert ("(default)" in row.cells["engine"]) == is_default, row.where


def test_every_event_is_in_the_table() -> None:
    """With its level, and no other is."""
    rows = OPERATIONS.table("event", "level", "when")
    logged = logged_events()
    documented: dict[str, str] = {}
    for row in rows:
        names, levels = codes(row.cells["event"]), row.cells["level"].split(", ")
        for name in names:
            assert name in logged, f"{row.where}: nothing logs {name}"
            assert name not in documented, f"{row.where}: {name} is in {documented[name]}, too"
            assert logged[name] <= set(levels), f"{row.where}: {name} is logged as {logged[name]}, not {levels}"
            documented[name] = row.where
        superfluous = set(levels) - {level for name in names for level in logged[name]}
        assert not superfluous, f"{row.where}: nothing of this is logged as {superfluous}"
    missing = {name: levels for name, levels in logged.items() if name not in documented}
    assert not missing, f"docs/operations.md: the table of events has no row for {missing}"


def all_codes() -> set[str]:
    """Return every code of the line protocol."""
    found = {"conflict"}  # an answer to COMMIT, and no exception
    kinds: list[type[errors.KvsError]] = [errors.KvsError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.code)
        kinds += kind.__subclasses__()
    return found


def test_every_error_code_is_in_the_table() -> None:
    """RESP has those that are not mistakes of the client, in capitals, but for refusals, which have Redis's."""
    rows = PROTOCOL.table("code", "when", "the transaction", "the connection")
    named = {code for row in rows for code in codes(row.cells["code"])}
    assert named == all_codes(), f"docs/protocol.md: the codes differ from the program's: {named ^ all_codes()}"
    for where, text in PROTOCOL.spans():
        if re.fullmatch(r"-[A-Z_]{2,}", text) and text not in OF_REDIS:
            assert text[1:].lower() in all_codes(), f"{where}: there is no code {text}"


OF_REDIS: Final = ("-ERR", "-EXECABORT", "-NOAUTH", "-NOPERM", "-WRONGPASS")
"""Codes that Redis has for what the line protocol calls otherwise."""


def check_figures(engine: str, client: Client) -> None:
    """Check that INFO of an engine has the figures of the tables: session, server and engine; and no other."""
    tables = [rows for rows in PROTOCOL.tables() if "unit" in rows[0].cells]
    documented: dict[str, set[str]] = {}
    for rows in tables:
        (part,) = {next(iter(row.cells)) for row in rows}
        for row in rows:
            only_in = re.match(r"only with (`\w+`(?: or `\w+`)*)", row.cells["meaning"])
            if only_in is None or engine in codes(only_in[1]):
                documented.setdefault(codes(part)[0], set()).update(codes(row.cells[part]))
    client.ok("START")
    info = client.ask("INFO")["result"]
    assert isinstance(info, dict)
    for part, names in documented.items():
        assert info[part].keys() == names, f"docs/protocol.md: INFO of {engine}, {part}: {info[part].keys() ^ names}"
    assert info.keys() == documented.keys()


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_every_figure_of_info_is_in_the_tables(engine: str) -> None:
    """Those of the session, of the server and of the engine; and no other is."""
    with Server("--storage", engine, "--max-data-bytes", "1GiB", *server_flags()) as server:
        check_figures(engine, server.connect())


def test_every_figure_of_etcd_is_in_the_tables() -> None:
    """As those of other engines are."""
    need_etcd()
    flags = ("--max-data-bytes", "1GiB", *server_flags())
    with running_cluster() as cluster, EtcdServer(cluster, "kvs", *flags) as server:
        assert server.leads()
        with closing(server.connect()) as client:
            check_figures("etcd", client)


def listed_in_readme(protocol: str) -> set[str]:
    """Return the commands that the README lists for a protocol."""
    listed = re.search(rf"- \*\*{protocol}:\*\* ((?:[A-Z_]+[,.]?\s+)+)", README.section("## Commands") + "\n")
    assert listed is not None, f"README.md: no commands stand behind '- **{protocol}:**'"
    return set(re.findall(r"[A-Z_]+", listed[1]))


def test_every_command_of_the_line_protocol_is_documented() -> None:
    """In the README's list, and under a heading of the reference."""
    shown = listed_in_readme("Line protocol")
    headings = {
        name
        for line in PROTOCOL.prose
        if (found := re.fullmatch(r"### ((?:[A-Z]+)(?:, [A-Z]+)*)(?: .*)?", line))
        for name in found[1].split(", ")
    }
    names = {name.decode() for name in LINE_COMMANDS}
    assert shown == names, f"README.md: the list of commands differs from the program's: {shown ^ names}"
    assert headings == names, (
        f"docs/protocol.md: the headings of commands differ from the program's: {headings ^ names}"
    )


def commands_of_resp() -> dict[str, set[str]]:
    """Return the commands of RESP with their subcommands, as the server lists them itself."""
    commands: dict[str, set[str]] = {}
    with Server() as server, Wire((server.host, server.port)) as wire:
        listed = _texts(wire.ask("COMMAND", "LIST"))
        commands |= {name.upper(): set() for name in listed if "|" not in name}
        for name in ("ACL", "CLIENT", "COMMAND", "CONFIG", "LATENCY", "MEMORY", "OBJECT", "SLOWLOG"):
            lines = _texts(wire.ask(name, "HELP"))[1:]
            commands[name] = {line.split()[0] for line in lines if line[0].isupper()} - {"HELP"}
    return commands


def _texts(reply: Reply) -> list[str]:
    """Return the texts in an array of strings of either kind."""
    assert isinstance(reply, list)
    texts = [item.value if isinstance(item, Typed) else item for item in reply]
    return [text.decode() for text in texts if isinstance(text, bytes)]


def _named(part: str, commands: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Return the commands that a part of a cell names: ``GET SET CONFIG GET``, or ``CLIENT ID, TRACKING OFF, LIST``."""
    first, *others = ([word for word in item.split() if word.isascii()] for item in part.split(","))
    name = ""
    for word in first:
        if word in commands.get(name, ()):
            yield name, word
        else:
            name = word
            yield name, ""
    for subcommand, *_ in others:
        yield name, subcommand


def test_every_command_of_resp_is_documented() -> None:
    """In the README, and with its subcommands in the table of the reference."""
    commands = commands_of_resp()
    shown = listed_in_readme("RESP")
    assert shown == commands.keys(), f"README.md: the commands of RESP differ: {shown ^ commands.keys()}"
    documented: dict[str, set[str]] = {}
    for row in PROTOCOL.table("about", "commands"):
        for part in re.sub(r"\(.*?\)|\[.*?\]", "", row.cells["commands"]).split(";"):
            for name, subcommand in _named(part, commands):
                documented.setdefault(name, set()).update({subcommand} - {"", "HELP"})
    for name in documented.keys() | commands.keys():
        assert documented.get(name) == commands.get(name), (
            f"docs/protocol.md: of {name} the table has {documented.get(name)}, and the server {commands.get(name)}"
        )


def lines_of(target: str) -> int:
    """Return the number of lines of a module, or of all modules in a directory, by its path from the document."""
    path = (ROOT / ARCHITECTURE.path).parent / target
    return sum(
        module.read_text("utf-8").count("\n")
        for module in (path.rglob("*.py") if path.is_dir() else [path])
        if not module.resolve().is_relative_to(ROOT / "src" / "kvs" / "testing")
    )


def test_the_sizes_of_the_sources_are_about_right() -> None:
    """That of the whole, and of what is named as the way to read it, to a sixth."""
    totals = re.findall(r"about ([\d,]+)\s+lines", "\n".join(ARCHITECTURE.prose))
    assert totals, "docs/architecture.md: it does not say 'about N lines' of the whole"
    stated = [(ARCHITECTURE.path, "../src/kvs", total) for total in totals]
    for row in ARCHITECTURE.table("file", "lines, about", "what it shows"):
        (target,) = re.findall(r"\]\((.+?)\)", row.cells["file"])
        stated.append((row.where, target, row.cells["lines, about"]))
    for where, target, said in stated:
        lines = lines_of(target)
        assert abs(int(said.replace(",", "")) - lines) <= lines / 6, f"{where}: {target} has {lines} lines, not {said}"


def test_every_broken_engine_is_in_the_table() -> None:
    """With the case that it fails, and no other engine is."""
    rows = document("docs/development.md").table("engine", "fails the case `test_...`")
    shown = [(codes(row.cells["engine"])[0], codes(row.cells["fails the case `test_...`"])[0]) for row in rows]
    assert sorted(shown) == sorted((fault.engine.__name__, fault.promise) for fault in FAULTS)


def test_every_planted_fault_names_the_test_that_catches_it() -> None:
    """By its module, and by its name in words, or by part of it."""
    for row in document("docs/development.md").table("fault", "caught by"):
        for module, words in re.findall(r"`([\w/]+\.py)`(?:: ([^,]+))?", row.cells["caught by"]):
            (path,) = (path for place in PLACES_OF_TESTS if (path := ROOT / place / module).exists())
            name = re.sub(r"[^a-z0-9]+", "_", words.lower().replace("'", "")).strip("_")
            names = re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
            assert any(name in each for each in names), f"{row.where}: {module} has no test with {name!r} in its name"


def test_every_kind_of_cases_is_in_the_table() -> None:
    """Of the contract of an engine."""
    rows = ENGINES.table("cases", "hold that")
    shown = {name for row in rows for name in codes(row.cells["cases"])}
    modules = {path.stem for path in (ROOT / "src/kvs/testing/cases").glob("*.py")} - {"__init__", "base"}
    assert shown == modules, f"docs/engines.md: the table of cases differs from what there is: {shown ^ modules}"


def test_what_an_engine_raises_is_what_there_is() -> None:
    """And the code that the client gets."""
    for row in ENGINES.table("raise", "meaning", "the client gets"):
        for name in codes(row.cells["raise"]):
            kind = getattr(errors, name, None)
            assert kind is not None, f"{row.where}: there is no error {name}"
            assert codes(row.cells["the client gets"])[:1] == [kind.code], (
                f"{row.where}: the code of {name} is {kind.code}"
            )


def test_the_exit_codes_are_what_there_is() -> None:
    """In the table of the server, and in that of the commands that load and dump."""
    for page in (OPERATIONS, document("docs/backup.md")):
        rows = page.table("exit code", "meaning")
        assert [row.cells["exit code"] for row in rows] == ["0", "1", "2"], rows[0].where
    for code, arguments in ((0, ("config",)), (1, ("verify", "/nowhere")), (2, ("--port", "x")), (2, ("dump", "--x"))):
        ran = run_to_end(*arguments)
        assert ran.returncode == code, f"exit code {ran.returncode} and not {code} of kvs {arguments}: {ran.stderr}"


def test_the_figures_of_the_readme_are_those_of_the_page_about_performance() -> None:
    """Each ratio to Redis stands in its tables."""
    performance = document("docs/performance.md")
    known = set(re.findall(r"\d+\.\d+", "\n".join(performance.prose)))
    figures = re.findall(r"\d+\.\d+", README.section("## Speed"))
    assert figures
    for figure in figures:
        assert figure in known, f"README.md: {figure} is not in docs/performance.md"
