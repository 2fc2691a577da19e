r"""What is said to Redis and to kvs alike: conversations by what they are about.

Each line is a request, or several with ``|`` between them; ``B:`` and ``C:`` before one tell that another connection
sends it. Words are those of a shell, with ``\xff`` for a byte. Every conversation begins with no keys.
"""

from collections.abc import Iterator
from typing import Final

CONVERSATIONS: Final[dict[str, str]] = {
    "ping": r"""
        PING | ping a | PING a b | ECHO x | ECHO | ECHO a b | ECHO "" | ECHO "\x00\xff\r\n"
    """,
    "roles": r"""
        ROLE | role x | WAIT 0 0 | WAIT -1 5 | WAIT a 0 | WAIT 0 x | WAIT 0 -1 | WAIT 1 1 | WAIT 0
        REPLICAOF NO ONE | replicaof no one | SLAVEOF No One | SLAVEOF x | REPLICAOF localhost x | REPLICAOF a 65536
        REPLICAOF a -1 | MULTI | ROLE | WAIT 5 0 | REPLICAOF NO ONE | EXEC
    """,
    "unknown commands": r"""
        FOO | foo bar baz | FOO "\r\n" | "" | "" "" | "get " a | FOO "" "" | FOO a "" b
        FOO aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee xxxx
        LONG
        FOO LONG | FOO "WIDE" x yyyy | FOO "x" "WIDE" z | "WIDE" "WIDE" "WIDE"
        FOO "a'b" | "F'O" x | "\xff\xfe" "\xff" | "F\x00O" "a\x00b" c | "\x00" "\x00" "" | FOO "\xc3\xa9" | "\xc3\xa9"
        CLIENT "\xff\x00x" | CLIENT "a\r\nb" | CONFIG LONG | COMMAND "" | HELLO 2 "\xff\x00x"
    """.replace("LONG", "f" * 160).replace("WIDE", r"\xc3\xa9" * 62),
    "get and set": r"""
        GET | get a | GET a b | SET a | SET a 1 | GET a | gEt a | SET a "" | GET a | SET a "\x00\xff" | GET a
        SET a 2 NX | SET b 2 NX GET | GET b | SET b 3 NX GET | SET a 3 XX GET | SET c 3 XX GET | SET c 3 XX | GET c
        SET a 4 GET | SET d 4 GET | SET a 3 NX XX | SET a 3 XX NX | SET a 3 FOO | SET a 3 NX FOO | SET a 3 GET GET
        SET a 3 NX NX | SET a 3 XX XX | SET a 3 nx get | SET "\xff\x00 \r\n" 1 | GET "\xff\x00 \r\n"
        SET a 3 "" | MSET a
    """,
    "setnx, getset, getdel": r"""
        SETNX | SETNX a | SETNX a 1 | SETNX a 2 | GET a | SETNX a 2 3
        GETSET a 9 | GETSET b 9 | GETSET b | GETSET | GET b | GETDEL b | GETDEL b | GETDEL | GETDEL a b | GETDEL a
    """,
    "values with deadlines": r"""
        SETEX | SETEX a 10 | SETEX a x 1 | SETEX a 0 1 | SETEX a -1 1 | SETEX a 9223372036854775807 1 | SETEX a "" 1
        SETEX a 10 1 x | SETEX a 1000 v | GET a | PERSIST a | PERSIST a | TTL a | PTTL a | PSETEX a 0 1 | PSETEX a 1.5 1
        PSETEX a 9223372036854775807 1 | PSETEX a 10 | PSETEX a 100000 w | GET a | PERSIST a | TTL a | GET a
        SET a 3 EX | SET a 3 PX | SET a 3 EX EX | SET a 3 EX x | SET a 3 EX 0 | SET a 3 PX -1 | SET a 3 EX 1.0
        SET a 3 EX 10 PX 10 | SET a 3 EX 10 KEEPTTL | SET a 3 KEEPTTL PXAT 1 | SET a 3 PERSIST | SET a 3 EX 1000 EX 2000
        SET a 3 EX 9223372036854775 | SET a 3 EX 9223372036854776 | SET a 3 PX 9223372036854775807 | SET a 3 EXAT 0
        SET a 3 EXAT 9223372036854775807 | SET a 3 PXAT -5 | SET a 3 PXAT "" | SET a 3 NX XX EX 10 | SET a 3 FOO EX 0
        SET a 3 EX 0 FOO | SET a 3 NX EX 0 | SET a 3 GET EX 0 | GET a
        SET b 4 EXAT 32503680000 | EXPIRETIME b | PEXPIRETIME b | SET b 5 KEEPTTL | PEXPIRETIME b | SET b 6 | TTL b
        SET b 7 pxat 32503680000499 nx | GET b | SET b 7 pxat 32503680000499 xx get | EXPIRETIME b | PEXPIRETIME b
        SET b 8 GET PXAT 32503680000500 XX | EXPIRETIME b | SET c 1 NX GET PXAT 32503680000000 | PEXPIRETIME c
        SET c 2 XX KEEPTTL GET | PEXPIRETIME c | SET c 3 NX KEEPTTL | GET c | SET d 1 KEEPTTL | TTL d | SET d 1 XX EX 0
        SET d 2 PXAT 1 | GET d | EXISTS d | TTL d | SET d 2 EXAT 1 NX | GET d | SET d 3 | SET d 4 PXAT 1 XX GET | GET d
        GETEX | GETEX nope | GETEX b | PEXPIRETIME b | GETEX b PERSIST | TTL b | GETEX b EXAT 32503680001
        PEXPIRETIME b
        GETEX b PXAT 32503680002000 | PEXPIRETIME b | GETEX b PERSIST EX 10 | GETEX b KEEPTTL | GETEX b NX | GETEX b GET
        GETEX b EX | GETEX b EX 0 | GETEX nope EX 0 | GETEX nope EX x | GETEX b PX x | GETEX b EX 10 PX 10 | GETEX b FOO
        GETEX b EX 9223372036854775807 | GETEX b persist PERSIST | GETEX b PXAT 1 | GET b | GETEX nope PXAT 1
        GETSET c 9 | TTL c | SET c 9 EXAT 32503680000 | INCR c | APPEND c 0 | SETRANGE c 0 2 | INCRBYFLOAT c 0.5
        PEXPIRETIME c | MSET c 1 | TTL c | SET c 9 EXAT 32503680000 | MSETNX c 1 e 1 | PEXPIRETIME c | GETDEL c | TTL c
        SETNX c 1 | TTL c
    """,
    "deadlines": r"""
        EXPIRE | EXPIRE a | EXPIRE a 10 | EXPIRE a x | EXPIRE a 9223372036854775807 | EXPIRE a -9223372036854775808
        EXPIRE a 1 FOO | EXPIRE a x FOO | EXPIRE a 1 NX XX | EXPIRE a 1 NX GT | EXPIRE a 1 NX LT | EXPIRE a 1 GT LT
        EXPIRE a 1 NX "\xff\x00x" | EXPIRE a 1 XX GT LT | EXPIRE a 1 "" | PEXPIRE a 9223372036854775807 | PEXPIRE a
        PEXPIRE a -9223372036854775808 | EXPIREAT a x | EXPIREAT a 9223372036854775807 | PEXPIREAT a | TTL a | PTTL a
        EXPIRETIME a | PEXPIRETIME a | PERSIST a | TTL | PTTL a b | EXPIRETIME | PEXPIRETIME | PERSIST | PERSIST a b
        SET a 1 | TTL a | PTTL a | EXPIRETIME a | PEXPIRETIME a | EXPIRE a 9223372036854775 | EXPIRE a 9223372036854776
        EXPIRE a 1000 | EXPIRE a 1000 NX | EXPIRE a 2000 XX | PERSIST a | EXPIRE a 1000 XX | EXPIRE a 1000 GT | TTL a
        EXPIREAT a 32503680000 LT | PEXPIRETIME a | EXPIREAT a 32503680000 GT | EXPIREAT a 32503680000 LT | EXPIRETIME a
        PEXPIREAT a 32503680000001 GT | PEXPIREAT a 32503680000000 LT | PEXPIREAT a 32503680000000 NX | PEXPIRETIME a
        PEXPIREAT a 32503680000002 xx gt | PEXPIRETIME a | PEXPIREAT a 32503680000001 XX LT XX | PEXPIRETIME a
        EXPIRE a 1000 GT | PEXPIRETIME a | RENAME a b | PEXPIRETIME b | TTL a | COPY b c | PEXPIRETIME c | SET d 1
        RENAME d b | TTL b | SET d 1 | COPY c d | COPY c d REPLACE | PEXPIRETIME d | RENAMENX d e | PEXPIRETIME e
        RENAME e e | PEXPIRETIME e | SET f 1 | COPY f e REPLACE | TTL e | EXPIRE e -1 | GET e | EXPIRE f 0 | EXISTS f
        DBSIZE | SET f 1 | PEXPIREAT f 1 NX | EXISTS f | SET f 1 | EXPIREAT f 1 GT | EXPIREAT f 1 LT | TYPE f
        SET f 1 | PEXPIRE f -9223372036854775808 | EXPIREAT f -1 | TTL f | SET f 1 | PEXPIREAT f 0 | KEYS * | DBSIZE
        SET f 1 | DEL f | SET f 2 | TTL f | SET f 3 EXAT 32503680000 | FLUSHALL | TTL f | SET f 4 | TTL f
        TOUCH | TOUCH f | TOUCH f f nope | TOUCH nope
    """,
    "deadlines in a queue and watched": r"""
        MULTI | SET a 1 EX 1000 | PERSIST a | PERSIST a | TTL a | PEXPIREAT a 32503680000000 | PEXPIRETIME a
        EXPIRE a x
        GETEX a PERSIST | TTL a | EXPIRE a -1 | EXISTS a | SETEX a 0 1 | SETEX a 1000 1 | PERSIST a | EXEC | TTL a
        MULTI | EXPIRE a | EXEC | MULTI | SET a 2 PXAT 1 | GET a | SET a 3 | EXEC | TTL a | GET a
        WATCH a | B: EXPIRE a 1000 | MULTI | PING | EXEC | WATCH a | B: EXPIRE a 2000 NX | MULTI | PING | EXEC
        WATCH a | B: PERSIST a | MULTI | PING | EXEC | WATCH a | B: PERSIST a | MULTI | PING | EXEC
        WATCH a | B: GETEX a | B: TTL a | B: TOUCH a | MULTI | PING | EXEC | WATCH a | B: GETEX a PERSIST | MULTI | PING
        EXEC | WATCH a | B: GETEX a EX 1000 | MULTI | PING | EXEC | WATCH a | B: SET a 3 KEEPTTL | MULTI | PING | EXEC
        WATCH a | B: EXPIRE a 0 | MULTI | PING | EXEC | WATCH a | B: EXPIRE a 1000 | MULTI | PING | EXEC
        WATCH nope | B: EXPIRE nope 1000 | B: PERSIST nope | B: PEXPIREAT nope 1 | MULTI | PING | EXEC
    """,
    "how values are stored": r"""
        OBJECT | OBJECT FOO | OBJECT ENCODING | OBJECT ENCODING nope | OBJECT FREQ nope | OBJECT IDLETIME nope
        OBJECT REFCOUNT nope | OBJECT REFCOUNT | OBJECT FREQ a b | OBJECT IDLETIME | SET a WIDE | OBJECT ENCODING a
        OBJECT REFCOUNT a | OBJECT FREQ a | OBJECT HELP x | MEMORY | MEMORY FOO | MEMORY USAGE | MEMORY USAGE nope
        MEMORY USAGE nope SAMPLES | MEMORY USAGE nope SAMPLES x | MEMORY USAGE nope SAMPLES -1 | MEMORY USAGE nope FOO
        MEMORY USAGE nope SAMPLES 0 samples 5 | MEMORY USAGE a FOO 1 | MEMORY HELP x
        MULTI | OBJECT ENCODING a | OBJECT FREQ a | OBJECT ENCODING nope | MEMORY USAGE nope | EXEC
        MOVE | MOVE a | MOVE a 0 | MOVE nope 0 | MOVE a x | MOVE a 1 | MOVE a 2147483648 | SWAPDB | SWAPDB 0
        SWAPDB 0 0
        SWAPDB 0 1 | SWAPDB 1 0 | SWAPDB x 0 | SWAPDB 0 x | SWAPDB 2147483648 0 | SWAPDB 0 -2147483649 | SWAPDB -1 -1
    """.replace("WIDE", "w" * 60),
    "whole numbers": r"""
        INCR | INCR n m | INCR n | DECR n | DECR n | DECR | INCRBY n 5 | INCRBY n x | INCRBY n | INCRBY n ""
        INCRBY n 01
        INCRBY n +1 | INCRBY n -0 | INCRBY n " 1" | INCRBY n 1.0 | INCRBY n -1 | INCRBY n 1_0
        INCRBY n 99999999999999999999 | DECRBY n 2 | DECRBY n | DECRBY n x | DECRBY n -9223372036854775808
        DECRBY n -5 | DECRBY n 9223372036854775808 | SET n 0
        INCRBY n 9223372036854775807 | INCR n | INCRBY n 1 | GET n | SET n -9223372036854775808 | DECR n | DECRBY n 1
        INCRBY n -1 | GET n | SET s abc | INCR s | DECR s | INCRBY s 1 | DECRBY s 1 | GET s
        SET s 01 | INCR s | SET s " 1" | INCR s | SET s "1\n" | INCR s | SET s "" | INCR s | SET s +1 | INCR s
        SET s -0 | INCR s | SET s -1 | INCR s | SET s 9223372036854775808 | INCR s | SET s 1e3 | INCR s
        SET s -9223372036854775809 | INCR s | SET s 1.0 | INCR s | SET s "1\x00" | INCR s | SET s "\xd9\xa1" | INCR s
    """,
    "decimal numbers": r"""
        INCRBYFLOAT f 10.5 | INCRBYFLOAT f 0.1 | INCRBYFLOAT f -5 | INCRBYFLOAT f x | INCRBYFLOAT f | INCRBYFLOAT
        GET f | SET s abc | INCRBYFLOAT s 1 | SET f 5.0e3 | INCRBYFLOAT f 2.0e2 | INCRBYFLOAT f 1e-20
        INCRBYFLOAT f nan
        INCRBYFLOAT f "" | INCRBYFLOAT f " 1" | INCRBYFLOAT f "1 " | INCRBYFLOAT f 1e | INCRBYFLOAT f .
        INCRBYFLOAT f -.5
        INCRBYFLOAT f 5. | INCRBYFLOAT f +1 | INCRBYFLOAT f 1E2 | INCRBYFLOAT f 1e+2 | INCRBYFLOAT f -0 | SET z 0
        INCRBYFLOAT z -0 | INCRBYFLOAT z -0.0 | INCRBYFLOAT z 0.00000000000000001 | SET z 1 | INCRBYFLOAT z -1 | GET z
        SET i 3 | INCRBYFLOAT i 1 | INCR i | INCRBYFLOAT i 0.5 | INCR i | SET e "" | INCRBYFLOAT e 1 | SET e " 1"
        INCRBYFLOAT e 1 | SET e "1\x00" | INCRBYFLOAT e 1 | INCRBYFLOAT i 1,5 | INCRBYFLOAT i --1 | INCRBYFLOAT i 1_0
        SET f 1 | INCRBYFLOAT f inf | INCRBYFLOAT f -Infinity | INCRBYFLOAT f NaN | INCRBYFLOAT f 0x1p3
        INCRBYFLOAT f 0X.8
        INCRBYFLOAT f 1e-400 | INCRBYFLOAT f 1e-4950 | INCRBYFLOAT f 1e-5000 | INCRBYFLOAT f 1e308 | INCRBYFLOAT f 1e308
        INCRBYFLOAT f 1e4932 | INCRBYFLOAT f 1e4932 | INCRBYFLOAT f 1.1e4932 | INCRBYFLOAT f 1e5000
        INCRBYFLOAT f -1e4932
        SET f inf | INCRBYFLOAT f 1 | INCRBYFLOAT f -inf | INCRBYFLOAT f x | SET f 0x10 | INCRBYFLOAT f 1 | SET f "\t1"
        INCRBYFLOAT f 1 | SET f 18446744073709551617.5 | INCRBYFLOAT f 0.25 | SET f 123456789012345678901234567890
        INCRBYFLOAT f 1 | SET f 0.1 | INCRBYFLOAT f 1000000000000000000
    """,
    "parts of values": r"""
        APPEND ap hi | APPEND ap there | APPEND ap "" | APPEND ap | APPEND new "" | EXISTS new | APPEND ap a b
        STRLEN ap | STRLEN nokey | STRLEN | STRLEN a b
        GETRANGE ap 0 -1 | GETRANGE ap -3 -1 | GETRANGE ap -100 -99 | GETRANGE ap 5 2 | GETRANGE ap 2 100
        GETRANGE nokey 0 -1 | GETRANGE ap x 1 | GETRANGE ap 1 x | GETRANGE ap 1 | GETRANGE ap -100 2 | GETRANGE ap 0 0
        GETRANGE ap -1 -3 | GETRANGE ap -1 0 | GETRANGE ap 7 7 | GETRANGE ap 6 6 | GETRANGE ap 0 -100
        GETRANGE ap 100 200
        GETRANGE ap -9223372036854775808 9223372036854775807 | GETRANGE ap 0 9223372036854775808 | GETRANGE nokey x 1
        SETRANGE ap 3 XX | GET ap | SETRANGE ap 6 long | GET ap | SETRANGE pad 5 x | GET pad | SETRANGE none 5 ""
        EXISTS none | SETRANGE ap 1 "" | SETRANGE ap 100 "" | SETRANGE ap -1 x | SETRANGE ap 536870912 x
        SETRANGE ap x x
        SETRANGE ap 0 | SETRANGE ap | SETRANGE none -1 "" | SETRANGE none x "" | SETRANGE ap 9223372036854775807 x
        SETRANGE ap 9223372036854775808 x | SETRANGE none 536870912 "" | SETRANGE ap 536870912 ""
    """,
    "bits": r"""
        SETBIT | SETBIT a | SETBIT a 0 | SETBIT a 0 1 2 | SETBIT a 7 1 | GET a | SETBIT a 7 1 | SETBIT a 7 0 | GET a
        SETBIT a 100 0 | STRLEN a | SETBIT a 3 1 | GET a | SETBIT a x 1 | SETBIT a -1 1 | SETBIT a "#1" 1
        SETBIT a 01 1
        SETBIT a 0 2 | SETBIT a 0 -1 | SETBIT a 0 x | SETBIT a 0 "" | SETBIT a "" 1 | SETBIT a x 2
        SETBIT a 4294967296 1
        SETBIT a 9223372036854775808 1 | SETBIT new 4294967296 0 | EXISTS new | SETBIT new 0 0 | GET new | STRLEN new
        GETBIT | GETBIT a | GETBIT a 3 | GETBIT a 4 | GETBIT a 99999 | GETBIT nope 5 | GETBIT nope x
        GETBIT a 4294967295
        GETBIT a 4294967296 | GETBIT a -1 | GETBIT a 3 4 | SET n 12345 | GETBIT n 2 | SETBIT n 6 1 | GET n
    """,
    "counting bits": r"""
        SET s foobar | BITCOUNT | BITCOUNT s | BITCOUNT s 0 0 | BITCOUNT s 1 1 | BITCOUNT s 1 1 BYTE
        BITCOUNT s 5 30 BIT
        BITCOUNT s 0 | BITCOUNT s 0 x | BITCOUNT s x 0 | BITCOUNT s 0 1 FOO | BITCOUNT s 0 1 bit x
        BITCOUNT s 0 -1 bYtE
        BITCOUNT s -1 -2 | BITCOUNT s -1 -2 FOO | BITCOUNT s -2 -1 | BITCOUNT s -100 100 | BITCOUNT s -100 -90
        BITCOUNT s 4 2 | BITCOUNT s 6 7 | BITCOUNT s 5 5 | BITCOUNT s -11 -3 BIT | BITCOUNT s 7 8 BIT
        BITCOUNT s 47 48 BIT
        BITCOUNT s 48 49 BIT | BITCOUNT s 0 9223372036854775807 | BITCOUNT s -9223372036854775808 -1 BIT
        BITCOUNT s 0 9223372036854775808 | BITCOUNT nope | BITCOUNT nope 0 | BITCOUNT nope x y z
        BITCOUNT s 0 1 "bit\x00x"
        SET e "" | BITCOUNT e | BITCOUNT e 0 -1 | BITCOUNT e 0 -1 BIT | SET n 255 | BITCOUNT n | SET f "\xff\xff"
        BITCOUNT f
    """,
    "finding bits": r"""
        BITPOS | BITPOS s | BITPOS nope 0 | BITPOS nope 1 | BITPOS nope 0 x | BITPOS nope 1 0 0 0 0 | BITPOS nope 2
        BITPOS nope x | BITPOS nope "" | SET s "\xff\xf0\x00" | BITPOS s 0 | BITPOS s 1 | BITPOS s 0 1 | BITPOS s 1 2
        BITPOS s 0 0 0 | BITPOS s 0 0 -3 | BITPOS s 1 2 -1 | BITPOS s 0 -1 | BITPOS s 0 -100 100 | BITPOS s 0 3
        BITPOS s 1 3
        BITPOS s 0 0 11 BIT | BITPOS s 0 0 12 BIT | BITPOS s 1 12 -1 BIT | BITPOS s 1 7 15 BIT | BITPOS s 0 7 15 bit
        BITPOS s 1 4 4 BIT | BITPOS s 0 4 4 BIT | BITPOS s 0 1 0 | BITPOS s 0 1 2 FOO | BITPOS s 0 1 x BIT
        BITPOS s 0 x 2 FOO
        BITPOS s 0 1 x FOO | BITPOS s 0 1 BIT | BITPOS s 0 1 2 BIT x | BITPOS s 2 | BITPOS s -1 | BITPOS s 1 0 0 byte
        SET f "\xff\xff" | BITPOS f 0 | BITPOS f 0 0 | BITPOS f 0 1 | BITPOS f 0 2 | BITPOS f 0 0 -1
        BITPOS f 0 0 15 BIT
        SET z "\x00\x00" | BITPOS z 1 | BITPOS z 1 0 | BITPOS z 0 1 | BITPOS z 1 0 -1 BIT | SET e "" | BITPOS e 0
        BITPOS e 1
        BITPOS e 0 0 | BITPOS e 0 0 -1 | BITPOS e 0 0 -1 BIT | BITPOS s 0 9223372036854775807
        BITPOS s 0 9223372036854775808
    """,
    "combining bits": r"""
        BITOP | BITOP AND | BITOP AND t | BITOP FOO t a | BITOP NOT t a b | BITOP FOO t a b | BITOP NOT t
        SET a "\x0f\xf0\xaa" | SET b "\xff" | SET c abcdef | BITOP AND t a b | GET t | BITOP OR t a b | GET t
        BITOP XOR t a b c | GET t | BITOP and t a nope | GET t | BITOP Or t a nope | GET t | BITOP xor t c c | GET t
        BITOP NOT t a | GET t | BITOP not a a | GET a | BITOP NOT t nope | EXISTS t | BITOP AND t nope nope
        BITOP OR c nope
        EXISTS c | SET e "" | BITOP XOR a e e | EXISTS a | BITOP AND t b | GET t | BITOP OR t b b b b | GET t
        BITOP NOT b b
        GET b | BITOP XOR b b b | GET b | SET n 123 | BITOP NOT n n | GET n | BITOP "and\x00x" t b n
        BITOP "an" t b n
    """,
    "bit fields": r"""
        BITFIELD | BITFIELD a | EXISTS a | BITFIELD a GET u8 0 | EXISTS a | BITFIELD a SET u8 0 255 | GET a
        BITFIELD a SET u8 0 256 GET u8 0 | BITFIELD a SET u8 0 -1 GET u8 0 | BITFIELD a SET i8 0 -1 GET i8 0 GET u8 0
        BITFIELD a SET i8 0 128 GET i8 0 | BITFIELD a INCRBY u8 0 300 | BITFIELD a INCRBY i8 "#1" 200 | GET a
        BITFIELD a INCRBY i5 100 1 GET u4 0 | BITFIELD a get U8 0 | BITFIELD a GET u64 0 | BITFIELD a GET i64 0
        BITFIELD a GET i65 0 | BITFIELD a GET u0 0 | BITFIELD a GET u63 5 | BITFIELD a GET i 0 | BITFIELD a GET "" 0
        BITFIELD a GET x8 0 | BITFIELD a GET i+8 0 | BITFIELD a GET i08 0 | BITFIELD a GET "i8\x00x" 0
        BITFIELD a GET i8
        BITFIELD a GET i8 x | BITFIELD a GET i8 -1 | BITFIELD a GET i8 "#" | BITFIELD a GET i8 "#-1"
        BITFIELD a GET i8 "##1"
        BITFIELD a GET i8 4294967295 | BITFIELD a GET i8 4294967296 | BITFIELD a GET i8 "#536870911"
        BITFIELD a GET i8 "#536870912" | BITFIELD a GET u1 0 FOO | BITFIELD a FOO | BITFIELD a SET u8 0
        BITFIELD a SET u8 0 x
        BITFIELD a SET u8 0 1 2 | BITFIELD a INCRBY u8 0 | BITFIELD a INCRBY u8 0 9223372036854775808 | BITFIELD a SET
        BITFIELD a INCRBY u63 0 9223372036854775807 INCRBY u63 0 1
        BITFIELD a SET u63 0 -9223372036854775808 GET u63 0
        BITFIELD a SET i64 0 9223372036854775807 INCRBY i64 0 1 INCRBY i64 0 -1
        BITFIELD a SET i1 0 1 GET i1 0 INCRBY i1 0 1
        GET a | BITFIELD a SET u8 4294967296 1 | BITFIELD new SET u8 x 1 | EXISTS new | BITFIELD new SET u4 3 0
        GET new
        BITFIELD b INCRBY u3 5 7 INCRBY u9 7 300 GET u16 0 SET i33 9 -5 GET i33 9 | GET b | SET n 123
        BITFIELD n INCRBY u8 0 1
        GET n
    """,
    "bit fields that overflow": r"""
        BITFIELD a OVERFLOW | BITFIELD a OVERFLOW FOO | BITFIELD a OVERFLOW SAT | EXISTS a
        BITFIELD a OVERFLOW "sat\x00x"
        BITFIELD a OVERFLOW SAT INCRBY u2 0 1 INCRBY u2 0 9 INCRBY u2 0 -9 OVERFLOW FAIL INCRBY u2 0 -1 INCRBY u2 0 4
        BITFIELD a OVERFLOW sat SET i8 0 200 GET i8 0 SET i8 0 -200 GET i8 0 INCRBY i8 0 -1 INCRBY i8 0 300
        BITFIELD a OVERFLOW FAIL SET i8 0 200 SET u8 0 -1 SET u8 0 256 GET i8 0 OVERFLOW WRAP INCRBY i8 0 1
        BITFIELD a OVERFLOW SAT SET u8 0 -1 GET u8 0 SET i8 0 -9223372036854775808 SET i8 0 -9223372036854775681
        BITFIELD a GET i8 0 OVERFLOW SAT SET i8 0 -9223372036854775680 GET i8 0 SET i63 0 -9223372036854775808 GET i63 0
        BITFIELD a OVERFLOW SAT INCRBY i64 0 -9223372036854775808 INCRBY i64 0 -9223372036854775808 INCRBY i64 0 1
        BITFIELD a OVERFLOW FAIL INCRBY i64 0 9223372036854775807 INCRBY i64 0 9223372036854775807 GET i64 0
        BITFIELD fresh OVERFLOW FAIL SET u8 20 256 | STRLEN fresh
        BITFIELD fresh OVERFLOW FAIL INCRBY u8 0 256 GET u8 0
        BITFIELD_RO | BITFIELD_RO a | BITFIELD_RO a GET i8 0 GET u4 2 | BITFIELD_RO nope GET u8 5
        BITFIELD_RO a SET u8 0 1
        BITFIELD_RO a SET u8 0 x | BITFIELD_RO a INCRBY u8 0 1 FOO | BITFIELD_RO a OVERFLOW FAIL
        BITFIELD_RO a OVERFLOW x
        BITFIELD_RO a GET u8 0 INCRBY u8 0 1 | GET a
    """,
    "longest common subsequences": r"""
        LCS | LCS a | LCS a b | SET a ohmytext | SET b mynewtext | LCS a b | LCS b a | LCS a b LEN | LCS a b IDX
        LCS b a IDX
        LCS a b IDX MINMATCHLEN 4 | LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN | LCS a b WITHMATCHLEN IDX
        LCS a b WITHMATCHLEN
        LCS a b len withmatchlen minmatchlen 100 | LCS a b IDX MINMATCHLEN -5 | LCS a b IDX MINMATCHLEN x
        LCS a b MINMATCHLEN
        LCS a b MINMATCHLEN 9223372036854775808 | LCS a b FOO | LCS a b LEN IDX | LCS a b IDX LEN FOO
        LCS a b IDX IDX
        LCS a b IDX MINMATCHLEN 1 MINMATCHLEN 5 | LCS a a | LCS a a IDX WITHMATCHLEN | LCS a nope | LCS nope a IDX
        LCS a nope LEN
        LCS nope nope FOO | SET e "" | LCS e a IDX | SET n 123123 | SET m 321321 | LCS n m | LCS m n IDX WITHMATCHLEN
        SET x "\x00\xff\x00" | LCS x "x" | LCS x a LEN | LCS a b "idx\x00x" | SET p abcabba | SET q cbabac | LCS p q
        LCS p q IDX | LCS q p IDX | LCS q p | SETBIT big 92679 1 | LCS big big LEN | SETBIT big 92680 1
        LCS big big LEN
        LCS big big
    """,
    "bits in queues": r"""
        SET w "\xf0" | WATCH w | B: SETBIT w 0 1 | MULTI | PING | EXEC | WATCH w | B: SETBIT w 7 1 | MULTI | PING
        EXEC
        WATCH w | B: BITFIELD w SET u8 0 241 | MULTI | PING | EXEC | WATCH w | B: BITFIELD w INCRBY u8 0 1 | MULTI
        PING | EXEC
        WATCH w | B: BITFIELD w GET u8 0 | B: BITCOUNT w | B: BITOP NOT v w | MULTI | PING | EXEC | WATCH v
        B: BITOP NOT v w
        MULTI | PING | EXEC | WATCH nope | B: BITOP AND nope none none | MULTI | PING | EXEC | WATCH v
        B: BITOP AND v none none | MULTI | PING | EXEC | WATCH w | B: SETBIT w 8 0 | MULTI | PING | EXEC
        MULTI | SETBIT a 3 1 | GETBIT a 3 | BITCOUNT a | BITPOS a 1 | BITFIELD a INCRBY u8 0 1 | BITOP NOT b a
        LCS a b IDX
        BITFIELD_RO b GET u8 0 | GET b | EXEC | MULTI | SETBIT a x 1 | BITFIELD a FOO | BITOP FOO a b | LCS a b FOO
        BITPOS a 5
        BITCOUNT a 0 1 FOO | GET a | EXEC | MULTI | SETBIT a | EXEC | MULTI | LCS a | BITOP NOT a | EXEC | GET a
    """,
    "many values": r"""
        MSET a 1 b 2 | MGET a b c | MGET | MGET c | MGET a a | MSET a 1 b | MSET | MSET a 1 a 2 | GET a
        MSETNX a 1 z 2 | EXISTS z | MSETNX y 1 z 2 | MSETNX y | MSETNX y 1 z | MSETNX | MSETNX p 1 p 2 | GET p
        EXISTS a a nope | EXISTS | EXISTS nope | DEL a b nope | DEL | DEL p p | DEL y nope y | UNLINK z | UNLINK z z
        UNLINK | UNLINK a b c | EXISTS z
    """,
    "keys": r"""
        SET z 1 | TYPE z | TYPE nope | TYPE | TYPE z z
        RENAME nope x | RENAME z zz | RENAME zz zz | GET zz | RENAME | RENAME zz | RENAME zz a b | RENAME nope nope
        SET s 5 | RENAMENX zz zz | RENAMENX nope nope | RENAMENX nope s | RENAMENX zz s | RENAMENX zz zzz | RENAMENX zz
        COPY zzz c1 | COPY zzz c1 | COPY zzz c1 REPLACE | COPY nope c1 | COPY c1 c1 | COPY nope nope
        COPY nope c1 REPLACE
        COPY c1 c2 DB 0 | COPY c1 c2 DB | COPY c1 c2 DB 77 | COPY c1 c2 DB x | COPY c1 c2 FOO | COPY c1 | COPY
        COPY c1 c3 REPLACE REPLACE | COPY c1 c3 REPLACE DB 0 | COPY s c3 db 0 replace | GET c3 | COPY c1 c1 REPLACE
        COPY c1 c1 FOO | COPY c1 c1 DB 0 | COPY c1 c4 DB 2147483647 | COPY c1 c4 DB 2147483648 | COPY c1 c4 DB -1
        COPY c1 c4 DB -2147483649 | COPY c1 c4 DB "" | COPY c1 c4 DB " 0" | COPY c1 c4 DB 0 DB 1 | COPY c1 c4 DB 0 DB 0
    """,
    "listings": r"""
        DBSIZE | DBSIZE x | KEYS * | MSET c1 1 c2 1 "c*" 1 d[x] 1 "\xff" 1 "d\\" 1 ab 1 a-b 1 ^ 1 | DBSIZE
        KEYS * | KEYS c* | KEYS c? | KEYS [ | KEYS [] | KEYS [c | KEYS [c]1 | KEYS [^c]* | KEYS [a-c]* | KEYS [c-a]*
        KEYS "c\\*" | KEYS "d\\[x]" | KEYS ?? | KEYS ** | KEYS "" | KEYS "*\\" | KEYS "d\\" | KEYS "\xff"
        KEYS "[\xfe-\xff]"
        KEYS | KEYS a b | KEYS c[12] | KEYS c[1-] | KEYS [^] | KEYS [a][b] | KEYS a[-]b | KEYS "a[\\-]b" | KEYS a[+--]b
        KEYS [^^] | KEYS [\\^] | KEYS "[c-" | KEYS "[^" | KEYS "*[1" | KEYS "*[12" | KEYS *1* | KEYS *?*? | KEYS c*1*
        SCAN 0 MATCH c1 COUNT 1000 | SCAN 0 COUNT 1000 | SCAN 0 COUNT 1000 TYPE string | SCAN 0 COUNT 1000 TYPE list
        SCAN 0 COUNT 1000 TYPE STRING | SCAN 0 count 1000 match * type string | SCAN 0 COUNT 1000 MATCH c? MATCH d*
        SCAN | SCAN x | SCAN 0 COUNT 0 | SCAN 0 COUNT -1 | SCAN 0 COUNT x | SCAN 0 FOO | SCAN 0 FOO 1
        SCAN 0 MATCH | SCAN 0 COUNT | SCAN 0 TYPE | SCAN 99999999999999999999999 | SCAN 1x | SCAN " 0"
        SCAN 0 COUNT 1000 x
        SCAN "" COUNT 1000 | SCAN -0 COUNT 1000 | SCAN +0 COUNT 1000 | SCAN 000000000000000000000000 COUNT 1000 | SCAN -
        SCAN 18446744073709551616 | SCAN -18446744073709551616 | SCAN 0x0 | SCAN "0 " | SCAN "\t0" | SCAN +-0 | SCAN 0_0
        SELECT 0 | SELECT 99 | SELECT -1 | SELECT x | SELECT | SELECT 0 0 | SELECT "" | SELECT 2147483647
        SELECT 4294967296
        SELECT 2147483648 | SELECT -2147483648 | SELECT -2147483649 | SELECT 9223372036854775808 | SELECT " 0"
        SELECT 00
        FLUSHALL FOO | FLUSHALL SYNC x | FLUSHALL SYNC | FLUSHDB ASYNC | FLUSHDB x | FLUSHDB | FLUSHALL async | DBSIZE
        RANDOMKEY | RANDOMKEY x | SET r 1 | RANDOMKEY
    """,
    "a queue": r"""
        MULTI | SET m 1 | INCR m | GET m | B: GET m | EXEC | B: GET m | EXEC | DISCARD | MULTI x | DISCARD x
        MULTI | MULTI | GET m | EXEC | MULTI | SET m 9 | DISCARD | GET m | MULTI | PING | PING a | ECHO hi | EXEC
        MULTI | EXEC | MULTI | UNWATCH | TYPE m | KEYS m | MGET m nope | SELECT 0 | SELECT 9 | EXEC
        FLUSHALL | SET m 1 | MULTI | SET m 1 NX | SET m 2 XX GET | SETNX m 1 | GETSET m 3 | GETDEL m | GET m | EXEC
        MULTI | APPEND m x | STRLEN m | GETRANGE m 0 -1 | SETRANGE m 1 yz | INCR n | DECR n | INCRBY n 5 | DECRBY n 2
        EXEC
        MULTI | INCRBYFLOAT f 0.5 | MSET a 1 b 2 | MSETNX a 1 c 2 | EXISTS a b c | DEL a | UNLINK b | DBSIZE | EXEC
        MULTI | RENAME m mm | RENAMENX mm m | COPY m mm | RENAME nope x | FLUSHALL | DBSIZE | RANDOMKEY | EXEC
        MULTI | SET k 1 | FLUSHDB | SET l 2 | KEYS * | SCAN 0 COUNT 1000 | SCAN 0 COUNT 1000 MATCH k | EXEC | DBSIZE
        MULTI | SET m 1 | RESET | GET m | EXEC
    """,
    "a queue with errors": r"""
        MULTI | FOO | SET a 1 | EXEC | GET a | MULTI | SET a | EXEC | MULTI | SET a | DISCARD | EXEC
        SET s abc | MULTI | INCR s | SET a 5 | SET b 1 FOO | INCRBY a x | EXEC | MGET a b | MULTI | SET | MULTI | EXEC
        MULTI | DECRBY a -9223372036854775808 | MSET a 1 b | SETRANGE a -1 x | COPY a a | SELECT 99 | KEYS | EXEC | EXEC
        MULTI | DECRBY a -9223372036854775808 | MSET a 1 b | SETRANGE a -1 x | COPY a a | SELECT 99 | EXEC | GET a
        MULTI | WATCH | EXEC | MULTI | DISCARD x | EXEC | MULTI | MULTI x | EXEC
        MULTI | WATCH a | SET a 7 | EXEC | GET a
    """,
    "a queue that EXEC refuses": r"""
        EXEC x | MULTI | SET a 1 | EXEC x | EXEC | GET a | MULTI | FOO | EXEC x y | EXEC | MULTI | DISCARD x | SET a 1
        EXEC
        WATCH w | EXEC x | B: SET w 1 | MULTI | PING | EXEC | WATCH w | MULTI | EXEC x | B: SET w 2 | MULTI | PING
        EXEC
        MULTI | CLIENT FOO | EXEC | MULTI | CLIENT GETNAME x | EXEC | MULTI | CONFIG | EXEC | MULTI | COMMAND FOO | EXEC
        MULTI | CLIENT HELP x | EXEC | MULTI | CLIENT KILL | EXEC | MULTI | SELECT | EXEC | MULTI | exec 1 2 3 | exec
    """,
    "a queue of commands about connections": r"""
        MULTI | CLIENT SETNAME me | CLIENT GETNAME | GET nope | EXEC | CLIENT GETNAME
        MULTI | CLIENT GETNAME | HELLO 3 SETNAME you | GET nope | CLIENT GETNAME | EXEC | GET nope | CLIENT GETNAME
        MULTI | GET nope | HELLO 2 | GET nope | HELLO x | HELLO 2 FOO | HELLO 4 | GET nope | EXEC | GET nope
        MULTI | HELLO 3 | DISCARD | GET nope | WATCH a | B: SET a 1 | MULTI | HELLO 3 SETNAME x | EXEC | CLIENT GETNAME
        MULTI | CLIENT KILL ID 99999 | CLIENT KILL ID x | CLIENT LIST TYPE foo | CLIENT LIST ID 99999 | INFO nope
        SET a 1 | EXEC
        MULTI | CONFIG GET save | COMMAND GETKEYS GET a | COMMAND INFO nope | CLIENT NO-EVICT ON | CLIENT NO-EVICT x
        EXEC
        MULTI | ECHO x | PING | SELECT 0 | SELECT 1 | CLIENT TRACKINGINFO | CLIENT GETREDIR | CLIENT UNPAUSE | EXEC
    """,
    "watching": r"""
        WATCH | WATCH w | SET w 1 | MULTI | GET w | EXEC | MULTI | GET w | EXEC | WATCH w x | B: SET x 1 | MULTI
        SET w 2
        EXEC | GET w | WATCH w | MULTI | WATCH w | GET w | EXEC | WATCH w | UNWATCH | B: SET w 5 | MULTI | GET w | EXEC
        UNWATCH x | WATCH w | B: SET w 5 | MULTI | DISCARD | MULTI | GET w | EXEC | WATCH w w w | MULTI | GET w | EXEC
        WATCH nope | B: DEL nope | MULTI | PING | EXEC | WATCH nope | B: SET nope 1 | B: DEL nope | MULTI | PING | EXEC
        WATCH w | B: APPEND w "" | MULTI | PING | EXEC | WATCH w | B: SETRANGE w 0 "" | MULTI | PING | EXEC
        WATCH w | B: GETDEL nope | MULTI | PING | EXEC | WATCH w | B: SET w 5 NX | MULTI | PING | EXEC
        WATCH w | B: INCR w | MULTI | PING | EXEC | WATCH w | B: SET w x | B: INCR w | MULTI | PING | EXEC
        WATCH w | B: RENAME w v | MULTI | PING | EXEC | WATCH v | B: COPY v w | MULTI | PING | EXEC
        WATCH v | B: COPY w v REPLACE | MULTI | PING | EXEC | WATCH w | B: FLUSHALL | MULTI | PING | EXEC
        WATCH w | B: FLUSHALL | MULTI | PING | EXEC | WATCH w | B: MULTI | B: SET w 1 | B: DISCARD | MULTI | PING | EXEC
        WATCH w | B: MULTI | B: SET w 1 | MULTI | B: EXEC | PING | EXEC | WATCH w | MULTI | B: SET w 2 | EXEC
        WATCH w | MULTI | FOO | EXEC | B: SET w 3 | MULTI | PING | EXEC | WATCH w | RESET | B: SET w 3 | MULTI | PING
        EXEC
        B: WATCH w | WATCH w | MULTI | B: MULTI | SET w 1 | B: SET w 2 | EXEC | B: EXEC | GET w
        WATCH w | SET w 3 | MULTI | INCR w | EXEC | WATCH w | UNLINK w w | MULTI | PING | EXEC | WATCH w | MSET q 1
        MULTI
        PING | EXEC | WATCH w | RENAME q w | MULTI | PING | EXEC | WATCH w | RENAME w w | MULTI | PING | EXEC
    """,
    "clients": r"""
        CLIENT | CLIENT FOO | CLIENT foo bar | CLIENT ID x | CLIENT SETNAME | CLIENT SETNAME me | CLIENT GETNAME
        CLIENT GETNAME x | CLIENT SETNAME "a b" | CLIENT SETNAME "a\n" | CLIENT GETNAME | CLIENT SETNAME ""
        CLIENT GETNAME
        CLIENT NO-EVICT ON | CLIENT NO-EVICT off | CLIENT NO-EVICT x | CLIENT NO-EVICT | CLIENT KILL
        CLIENT KILL ID 99999
        CLIENT KILL ADDR 1.1.1.1:1 | CLIENT KILL 1.1.1.1:1 | CLIENT KILL FOO x | CLIENT KILL ID x | CLIENT KILL ID 0
        CLIENT KILL ID 99999 ADDR | CLIENT KILL TYPE foo | CLIENT KILL TYPE pubsub | CLIENT KILL USER nobody
        CLIENT KILL SKIPME x | CLIENT KILL TYPE normal SKIPME maybe | CLIENT KILL ID 99999 SKIPME no | CLIENT KILL ID -1
        CLIENT KILL ADDR a ID 1 TYPE
        CLIENT LIST TYPE foo | CLIENT LIST TYPE pubsub | CLIENT LIST TYPE | CLIENT LIST ID 99999 | CLIENT LIST ID x
        CLIENT LIST ID | CLIENT LIST FOO | CLIENT LIST ID 0 | CLIENT LIST TYPE normal x
        CLIENT INFO x | CLIENT list ID 99999 99998 | CLIENT LIST ID x 1 | CLIENT LIST TYPE | CLIENT LIST x y z
        CLIENT KILL ID x ADDR | CLIENT KILL ADDR 1.1.1.1:1 LADDR 1.1.1.1:1 | CLIENT KILL LADDR
        CLIENT KILL LADDR 1.1.1.1:1
        CLIENT KILL LADDR a SKIPME yes ID 5 ID 99999 | CLIENT KILL USER default ADDR 1.1.1.1:1
        CLIENT KILL TYPE "\xff" ID 1
        CLIENT GETREDIR | CLIENT GETREDIR x | CLIENT TRACKINGINFO | CLIENT TRACKING | CLIENT TRACKING OFF
        CLIENT TRACKING x | CLIENT CACHING YES | CLIENT CACHING x | CLIENT CACHING | CLIENT UNPAUSE | CLIENT UNPAUSE x
        CLIENT UNBLOCK 99999 | CLIENT UNBLOCK x | CLIENT UNBLOCK 1 TIMEOUT | CLIENT UNBLOCK 1 error | CLIENT UNBLOCK 1 x
        CLIENT UNBLOCK | CLIENT UNBLOCK 1 ERROR x | CLIENT PAUSE | CLIENT PAUSE x | CLIENT PAUSE -1 | CLIENT PAUSE 1 x
        CLIENT PAUSE x FOO | CLIENT PAUSE 1 ALL x | CLIENT REPLY | CLIENT REPLY x | CLIENT REPLY ON | CLIENT REPLY ON x
        CLIENT HELP x | CLIENT help 1
    """,
    "the server": r"""
        CONFIG GET save | CONFIG GET databases | CONFIG GET nope | CONFIG GET SAVE | CONFIG GET sav[e] database?
        CONFIG | CONFIG GET | CONFIG FOO | CONFIG get save save | TIME x | INFO nope | INFO nope nope2
        CONFIG GET SAVE save | CONFIG GET sav? SAVE | CONFIG GET "save\x00x" | CONFIG GET [ | CONFIG GET sav\\e
        CONFIG GET maxmemory-policy requirepass slaveof replicaof masterauth logfile pidfile unixsocketperm tls-port
        CONFIG GET cluster-enabled daemonize syslog-enabled io-threads notify-keyspace-events activedefrag
        CONFIG SET foo 1 | CONFIG SET foo | CONFIG SET | CONFIG SET foo 1 bar | CONFIG SET "\xff\r" 1
        CONFIG SET timeout x | CONFIG SET timeout -1 foo 1 | CONFIG SET timeout 1 TIMEOUT 2
        CONFIG SET timeout 1 databases 2
        CONFIG SET slowlog-log-slower-than x | CONFIG SET slowlog-max-len 5 timeout 1.5 | CONFIG SET Timeout 7
        CONFIG GET timeout | CONFIG SET timeout 0 slowlog-log-slower-than -1 slowlog-max-len 128 | CONFIG GET timeout
        CONFIG GET slowlog-* | SLOWLOG | SLOWLOG FOO | SLOWLOG GET x | SLOWLOG GET -2 | SLOWLOG GET 1 2 | SLOWLOG LEN x
        SLOWLOG RESET | SLOWLOG LEN | SLOWLOG GET | SLOWLOG GET 0 | SLOWLOG GET -1 | SLOWLOG RESET x
        CONFIG SET slowlog-log-slower-than 10000 | LATENCY | LATENCY FOO | LATENCY LATEST | LATENCY LATEST x
        SLOWLOG HELP x | LATENCY HELP x
        LATENCY HISTORY | LATENCY HISTORY nope | LATENCY HISTORY a b | LATENCY RESET | LATENCY RESET a b
        LATENCY HISTOGRAM nope | CONFIG SET latency-monitor-threshold x | CONFIG SET latency-monitor-threshold -1 a 1
        CONFIG SET latency-monitor-threshold 100 | CONFIG GET latency-m* | CONFIG SET latency-monitor-threshold 0
        CONFIG SET loglevel x | CONFIG SET loglevel VERBOSE | CONFIG GET loglevel | CONFIG SET loglevel notice
        CONFIG SET maxclients x | CONFIG SET maxclients 9000 | CONFIG GET maxclients | CONFIG SET maxclients 10000
        CONFIG SET save "" notify-keyspace-events "" | CONFIG SET timeout 0 save "" timeout 0
        CONFIG SET databases 2 | CONFIG SET databases 2 foo 1 | CONFIG REWRITE x | CONFIG RESETSTAT x | CONFIG HELP x
        COMMAND GETKEYS MSET a 1 b 2 | COMMAND GETKEYS GET | COMMAND GETKEYS PING | COMMAND GETKEYS FOO
        COMMAND GETKEYS GET a | COMMAND GETKEYS get a b | COMMAND GETKEYS DEL a b c | COMMAND GETKEYS MSET a
        COMMAND GETKEYS
        COMMAND GETKEYS EXEC | COMMAND GETKEYS RENAME a b | COMMAND GETKEYS COPY a b REPLACE
        COMMAND GETKEYS SET a 1 NX
        COMMAND GETKEYS WATCH a b | COMMAND GETKEYS MSET a 1 b
        COMMAND FOO | COMMAND COUNT x | COMMAND INFO nope | COMMAND INFO nope nope2 | COMMAND DOCS nope
        COMMAND LIST FOO | COMMAND LIST FILTERBY PATTERN msetn* | COMMAND LIST FILTERBY FOO x
        COMMAND LIST FILTERBY PATTERN
        COMMAND LIST FILTERBY PATTERN NOPE | COMMAND LIST FILTERBY MODULE x | COMMAND LIST FILTERBY ACLCAT nope
        COMMAND LIST FILTERBY ACLCAT | COMMAND LIST FILTERBY
        COMMAND LIST FILTERBY ACLCAT string x | COMMAND LIST FILTERBY PATTERN a FILTERBY PATTERN b | COMMAND HELP x
        COMMAND INFO get client|list GET|x | COMMAND GETKEYSANDFLAGS MSET a 1 b 2 | COMMAND GETKEYSANDFLAGS PING
        COMMAND GETKEYSANDFLAGS SET a 1 GET | COMMAND GETKEYSANDFLAGS SET a 1 | COMMAND GETKEYSANDFLAGS FOO
        COMMAND GETKEYSANDFLAGS RENAME a b | COMMAND GETKEYSANDFLAGS | COMMAND GETKEYS CLIENT LIST
    """,
    "users": r"""
        ACL | ACL FOO | ACL WHOAMI | ACL WHOAMI x | ACL USERS | ACL LIST | ACL GETUSER default | ACL GETUSER nobody
        ACL GETUSER | ACL CAT nope | ACL CAT | ACL CAT a b | ACL CAT pubsub x | ACL GENPASS 0 | ACL GENPASS 5000
        ACL GENPASS x | ACL GENPASS 1 2 | ACL LOG x | ACL LOG 1 2 | ACL DELUSER | ACL DELUSER default
        ACL DELUSER nobody | ACL SETUSER | ACL HELP x | ACL LIST x | ACL USERS x | ACL SAVE x | ACL LOAD x
        ACL SETUSER u | ACL GETUSER u | ACL SETUSER u FOO | ACL SETUSER u +nope | ACL SETUSER u +@nope
        ACL SETUSER u %X~a*
        ACL SETUSER u !abc | ACL SETUSER u #abc | ACL SETUSER u +client|nope | ACL SETUSER u (~x* | ACL SETUSER "a b" on
        ACL SETUSER u on >TOKEN ~a:* %R~r:* +get | ACL LIST | ACL GETUSER u | ACL SETUSER u allkeys ~a*
        ACL SETUSER u off nopass +@all -@dangerous on | ACL SETUSER u resetpass resetkeys nocommands | ACL GETUSER u
        ACL SETUSER u on #TOKEN ~a:* %R~r:* %W~w:* +@read -exists | ACL LIST | ACL SETUSER u -@all +get
        ACL SETUSER u (~s:* +get) "(%R~t:* +@read" -get) | ACL LIST | ACL GETUSER u | ACL SETUSER u clearselectors
        ACL SETUSER u resetkeys ~a:* resetpass >TOKEN -@all +client|id +client -client|kill | ACL LIST
        ACL SETUSER u -@all +get +set +mget +multi +exec +discard +info | ACL DRYRUN u GET a:1 | ACL DRYRUN u GET b
        ACL DRYRUN u MGET a:1 b | ACL DRYRUN u DEL a:1 | ACL DRYRUN u NOPE | ACL DRYRUN nobody GET a | ACL DRYRUN u GET
        ACL DRYRUN u CONFIG GET x | ACL DRYRUN u | ACL DRYRUN
        B: AUTH u x | B: AUTH x | B: AUTH u TOKEN x | B: AUTH | B: AUTH default anything
        B: HELLO 2 AUTH nobody x | B: HELLO 2 AUTH u | B: AUTH u TOKEN | B: GET a:1 | B: GET b | B: SET a:1 v
        B: DEL a:1
        B: MGET a:1 b | B: CONFIG GET x | B: PING | B: ACL WHOAMI | B: MULTI | B: GET a:1 | B: DEL a:1 | B: EXEC
        B: MULTI | B: GET b | B: DISCARD | B: MULTI | B: SET a:1 w | B: GET a:1 | ACL SETUSER u -set | B: EXEC
        B: MULTI | B: GET a:1 | ACL SETUSER u resetkeys | B: EXEC | ACL SETUSER u nocommands | B: GET a:1 | B: RESET
        B: PING | ACL SETUSER u on nopass | B: AUTH u whatever | B: PING | B: RESET | ACL LOG RESET | ACL LOG
        ACL DELUSER u nobody | B: AUTH u whatever | ACL LOG RESET | ACL LIST
    """.replace("TOKEN", "0123456789abcdef" * 4),
    "versions of the protocol": r"""
        HELLO x | HELLO 4 | HELLO 1 | HELLO -1 | HELLO 2 FOO | HELLO 3 FOO | HELLO 2 SETNAME | HELLO 2 SETNAME "a b"
        GET nope | GET nope | CLIENT GETNAME | RESET x | QUIT x
    """,
    "resetting": r"""
        CLIENT SETNAME me | CLIENT GETNAME | RESET | CLIENT GETNAME | GET nope | WATCH a | MULTI | RESET | EXEC
        SET a 1
    """,
}


def requests(conversation: str) -> Iterator[tuple[str, str]]:
    """Yield who sends what: the name of a connection, and a line."""
    for line in conversation.strip().splitlines():
        for part in line.strip().split(" | "):
            sender, colon, rest = part.partition(": ")
            yield (sender, rest) if colon and sender in ("B", "C") else ("A", part)
