"""What may be said to a server, at random: commands over a few keys, with right arguments and with wrong ones."""

from typing import Final

from hypothesis import strategies as st

KEYS: Final = st.sampled_from(["a", "b", "c"])
NUMBERS: Final = st.sampled_from(["0", "1", "-1", "2", "5", "9223372036854775807", "-9223372036854775808", "x", ""])
PLACES: Final = st.sampled_from(["0", "1", "-1", "3", "-100", "100", "x"])
VALUES: Final = st.sampled_from(["1", "7", "-3", "0.5", "1e3", "abc", "", r"\x00\xff\r\n", "9223372036854775806"])
FLOAT_KEY: Final = st.just("f")  # of its own, for beside numbers of 64 bits Redis rounds fractions, and kvs does not
FLOATS: Final = st.sampled_from(["0.5", "-0.25", "3.0e2", "1", "x", "-0"])
OPTIONS: Final = st.sampled_from(["", "NX", "XX", "GET", "NX GET", "XX GET", "get get", "NX XX", "FOO"])
BITS: Final = st.sampled_from(["0", "1", "0", "1", "2"])
UNITS: Final = st.sampled_from(["", "BIT", "byte", "BIT"])
COMBINATIONS: Final = st.sampled_from(["AND", "or", "XOR", "NOT"])
FIELDS: Final = st.sampled_from(["u8", "i8", "u1", "i1", "u13", "i64", "u63", "i5"])
FIELD_PLACES: Final = st.sampled_from(["0", "3", "#1", "#2", "17", "-1"])
AMOUNTS: Final = st.sampled_from(["1", "-1", "200", "-200", "9223372036854775807", "-9223372036854775808", "x"])
OPERATIONS: Final = st.one_of(
    st.builds("GET {} {}".format, FIELDS, FIELD_PLACES),
    st.builds("SET {} {} {}".format, FIELDS, FIELD_PLACES, AMOUNTS),
    st.builds("INCRBY {} {} {}".format, FIELDS, FIELD_PLACES, AMOUNTS),
    st.sampled_from(["OVERFLOW SAT", "OVERFLOW FAIL", "OVERFLOW wrap"]),
)
LCS_OPTIONS: Final = st.sampled_from(["", "", "LEN", "IDX", "IDX WITHMATCHLEN", "IDX MINMATCHLEN 2", "LEN IDX"])
FAR_OFF: Final = st.sampled_from(["32503680000000", "32503680001499", "32503680001500", "32503680002000"])
"""Deadlines in milliseconds that nobody here will see pass; two servers do not see the same moment."""
LIFETIMES: Final = st.one_of(
    FAR_OFF.map("PXAT {}".format),
    st.sampled_from(["EX 100000", "PX 100000000", "EXAT 32503680000", "KEEPTTL", "PERSIST", "", "EX 0", "PX x", "EX"]),
)
PAST_OR_LONG: Final = st.sampled_from(["-1", "0", "100000000", "x"])
IF: Final = st.sampled_from(["", "", "NX", "XX", "GT", "LT", "XX GT", "lt xx", "NX GT", "GT LT", "FOO"])
NO_TIME: Final = st.sampled_from(["", "NX", "XX"])
"""Conditions that do not compare two moments, each of which was a while after the servers were asked."""
PATTERNS: Final = st.sampled_from(["*", "a*", "?", "[ab]", "[^a]", "b", "[a-b]*", "*c"])


def command(name: str, *parts: st.SearchStrategy[str], bare: bool = False) -> st.SearchStrategy[str]:
    """Return requests of a name and arguments, each in quotes unless ``bare``."""
    quoted = [part if bare else part.map('"{}"'.format) for part in parts]
    return st.tuples(*quoted).map(lambda drawn: " ".join([name, *drawn]))


DATA: Final = st.one_of(
    *(command(name, KEYS) for name in ("GET", "GETDEL", "STRLEN", "INCR", "DECR", "TYPE", "DEL", "EXISTS")),
    *(command(name, KEYS, VALUES) for name in ("SET", "SETNX", "GETSET", "APPEND", "MSET", "MSETNX")),
    *(command(name, KEYS, NUMBERS) for name in ("INCRBY", "DECRBY")),
    *(command(name, KEYS, KEYS) for name in ("MGET", "DEL", "UNLINK", "EXISTS", "RENAME", "RENAMENX", "COPY")),
    *(command(name, KEYS, VALUES, KEYS, VALUES) for name in ("MSET", "MSETNX")),
    st.builds('SET {} "{}" {}'.format, KEYS, VALUES, OPTIONS),
    st.builds("COPY {} {} REPLACE".format, KEYS, KEYS),
    *(command(name, KEYS) for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST", "TOUCH", "GETEX")),
    st.builds('SET {} "{}" {} {}'.format, KEYS, VALUES, OPTIONS, LIFETIMES),
    st.builds("GETEX {} {}".format, KEYS, LIFETIMES),
    st.builds("PEXPIREAT {} {} {}".format, KEYS, FAR_OFF, IF),
    st.builds("EXPIREAT {} 32503680001 {}".format, KEYS, IF),
    st.builds("{} {} {} {}".format, st.sampled_from(["PEXPIREAT", "EXPIREAT"]), KEYS, st.just("1"), IF),
    st.builds("{} {} {} {}".format, st.sampled_from(["EXPIRE", "PEXPIRE"]), KEYS, PAST_OR_LONG, NO_TIME),
    st.builds("SETEX {} 100000 1".format, KEYS),
    command("INCRBYFLOAT", FLOAT_KEY, FLOATS),
    command("SET", FLOAT_KEY, FLOATS),
    command("GETRANGE", KEYS, PLACES, PLACES),
    command("SETRANGE", KEYS, PLACES, VALUES),
    command("SETBIT", KEYS, PLACES, BITS),
    command("GETBIT", KEYS, PLACES),
    command("BITCOUNT", KEYS),
    st.builds("BITCOUNT {} {} {} {}".format, KEYS, PLACES, PLACES, UNITS),
    command("BITPOS", KEYS, BITS, PLACES),
    st.builds("BITPOS {} {} {} {} {}".format, KEYS, BITS, PLACES, PLACES, UNITS),
    command("BITOP", COMBINATIONS, KEYS, KEYS, KEYS),
    command("BITOP", COMBINATIONS, KEYS, KEYS),
    st.builds("BITFIELD {} {}".format, KEYS, st.lists(OPERATIONS, max_size=4).map(" ".join)),
    st.builds("BITFIELD_RO {} {}".format, KEYS, st.lists(OPERATIONS, max_size=2).map(" ".join)),
    st.builds("LCS {} {} {}".format, KEYS, KEYS, LCS_OPTIONS),
    command("KEYS", PATTERNS),
    st.builds('SCAN 0 COUNT 100 MATCH "{}"'.format, PATTERNS),
    st.sampled_from(["DBSIZE", "FLUSHALL", "GET", "SET a", "FOO", "INCR a b", "PING", "ECHO x"]),
)
TRANSACTIONS: Final = st.one_of(
    st.sampled_from(["MULTI", "EXEC", "MULTI", "EXEC", "DISCARD", "UNWATCH"]), command("WATCH", KEYS)
)
SAID: Final = st.lists(st.tuples(st.sampled_from("AAB"), st.one_of(DATA, DATA, DATA, TRANSACTIONS)), max_size=40)
