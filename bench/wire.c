/* Three protocols of lines, and the echo server's: see wire.h. */

#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t value_bytes;
static size_t value_key_bytes; /* how much of its key a value holds */
static char *filler;           /* value_bytes of 'v' */
static char resp_value_head[32];
static char memcached_set_tail[32];
static char memcached_value_tail[32];

void wire_set_value_bytes(size_t bytes) {
    value_bytes = bytes;
    value_key_bytes = bytes < KEY_BYTES ? bytes : KEY_BYTES;
    filler = malloc(bytes + 1);
    if (!filler) abort();
    memset(filler, 'v', bytes);
    snprintf(resp_value_head, sizeof resp_value_head, "$%zu\r\n", bytes);
    snprintf(memcached_set_tail, sizeof memcached_set_tail, " 0 0 %zu\r\n", bytes);
    snprintf(memcached_value_tail, sizeof memcached_value_tail, " 0 %zu\r\n", bytes);
}

size_t wire_value_bytes(void) { return value_bytes; }

/* ---- writing requests ---- */

void wire_add(struct batch *b, const char *bytes, size_t count) {
    memcpy(b->out + b->out_bytes, bytes, count);
    b->out_bytes += count;
}

#define ADD(batch, literal) wire_add(batch, literal, sizeof(literal) - 1)

static void key_text(char text[KEY_BYTES], uint64_t key) {
    memcpy(text, "key:", 4);
    for (int i = KEY_BYTES - 1; i >= 4; i--, key /= 10) text[i] = (char)('0' + key % 10);
}

void wire_add_key(struct batch *b, uint64_t key) {
    key_text(b->out + b->out_bytes, key);
    b->out_bytes += KEY_BYTES;
}

void wire_add_value(struct batch *b, uint64_t key) {
    char text[KEY_BYTES];
    key_text(text, key);
    wire_add(b, text, value_key_bytes);
    wire_add(b, filler, value_bytes - value_key_bytes);
}

void wire_expect(struct batch *b, enum due_kind kind, uint64_t key) {
    b->due[b->due_count++] = (struct due){.kind = kind, .key = key};
}

/* ---- reading replies ---- */

static int same(const char *in, size_t bytes, const char *wanted) {
    return bytes == strlen(wanted) && memcmp(in, wanted, bytes) == 0;
}

static int starts(const char *in, size_t bytes, const char *wanted) {
    return bytes >= strlen(wanted) && memcmp(in, wanted, strlen(wanted)) == 0;
}

/* Bytes up to and including LF; 0 if it has not arrived. */
static size_t line_bytes(const char *in, size_t bytes) {
    const char *lf = memchr(in, '\n', bytes);
    return lf ? (size_t)(lf - in) + 1 : 0;
}

/* Is `in` head, the value of `key`, tail, and nothing else? The filler's last byte stands for all of it. */
int wire_is_value(const char *in, size_t bytes, const char *head, const char *tail, uint64_t key) {
    size_t head_bytes = strlen(head), tail_bytes = strlen(tail);
    if (bytes != head_bytes + value_bytes + tail_bytes) return 0;
    const char *value = in + head_bytes;
    char text[KEY_BYTES];
    key_text(text, key);
    return memcmp(in, head, head_bytes) == 0 && memcmp(value, text, value_key_bytes) == 0 &&
           (value_bytes <= KEY_BYTES || value[value_bytes - 1] == 'v') &&
           memcmp(value + value_bytes, tail, tail_bytes) == 0;
}

static enum verdict right_if(int condition) { return condition ? REPLY_RIGHT : REPLY_WRONG; }

/* ---- the line protocol of kvs ---- */

#define LINE_OK "{\"status\": \"Ok\"}\n"
#define LINE_VALUE_HEAD "{\"status\": \"Ok\", \"result\": \""
#define LINE_VALUE_TAIL "\"}\n"

static void line_put(struct batch *b, uint64_t key) {
    ADD(b, "PUT "), wire_add_key(b, key), ADD(b, " "), wire_add_value(b, key), ADD(b, "\n");
    wire_expect(b, DUE_OK, key);
}

static void line_get(struct batch *b, uint64_t key) {
    ADD(b, "GET "), wire_add_key(b, key), ADD(b, "\n");
    wire_expect(b, DUE_VALUE, key);
}

static void line_del(struct batch *b, uint64_t key) {
    ADD(b, "DEL "), wire_add_key(b, key), ADD(b, "\n");
    wire_expect(b, DUE_DELETED, key);
}

static void line_txn_read(struct batch *b, uint64_t key) {
    ADD(b, "START\n");
    wire_expect(b, DUE_OK, key);
    line_get(b, key);
}

static void line_txn_write(struct batch *b, uint64_t key) {
    line_put(b, key);
    ADD(b, "COMMIT\n");
    wire_expect(b, DUE_COMMIT, key);
}

static void line_nest(struct batch *b) {
    ADD(b, "START\nROLLBACK\n");
    wire_expect(b, DUE_OK, 0), wire_expect(b, DUE_OK, 0);
}

static long line_reply(const char *in, size_t bytes, const struct due *due, enum verdict *verdict) {
    /* A value's end is known beforehand: look there first, so that a long one is not searched for its LF. */
    size_t value_line = sizeof LINE_VALUE_HEAD - 1 + value_bytes + sizeof LINE_VALUE_TAIL - 1;
    if (due->kind == DUE_VALUE && bytes >= value_line &&
        wire_is_value(in, value_line, LINE_VALUE_HEAD, LINE_VALUE_TAIL, due->key)) {
        *verdict = REPLY_RIGHT;
        return (long)value_line;
    }
    size_t line = line_bytes(in, bytes);
    if (due->kind == DUE_DELETED)
        *verdict = right_if(same(in, line, "{\"status\": \"Ok\", \"result\": true}\n"));
    else if (due->kind == DUE_COMMIT && starts(in, line, "{\"status\": \"Error\", \"code\": \"conflict\""))
        *verdict = REPLY_CONFLICT;
    else
        *verdict = right_if(due->kind != DUE_VALUE && same(in, line, LINE_OK));
    return (long)line;
}

/* The echo server is sent the same lines and answers Ok to each. */
static long echo_reply(const char *in, size_t bytes, const struct due *due, enum verdict *verdict) {
    (void)due;
    size_t line = line_bytes(in, bytes);
    *verdict = right_if(same(in, line, LINE_OK));
    return (long)line;
}

/* ---- RESP, the protocol of Redis ---- */

#define RESP_KEY_HEAD "$16\r\n"

static void resp_put_due(struct batch *b, uint64_t key, enum due_kind kind) {
    ADD(b, "*3\r\n$3\r\nSET\r\n" RESP_KEY_HEAD), wire_add_key(b, key), ADD(b, "\r\n");
    wire_add(b, resp_value_head, strlen(resp_value_head)), wire_add_value(b, key), ADD(b, "\r\n");
    wire_expect(b, kind, key);
}

static void resp_put(struct batch *b, uint64_t key) { resp_put_due(b, key, DUE_OK); }

static void resp_get(struct batch *b, uint64_t key) {
    ADD(b, "*2\r\n$3\r\nGET\r\n" RESP_KEY_HEAD), wire_add_key(b, key), ADD(b, "\r\n");
    wire_expect(b, DUE_VALUE, key);
}

static void resp_del(struct batch *b, uint64_t key) {
    ADD(b, "*2\r\n$3\r\nDEL\r\n" RESP_KEY_HEAD), wire_add_key(b, key), ADD(b, "\r\n");
    wire_expect(b, DUE_DELETED, key);
}

static void resp_txn_read(struct batch *b, uint64_t key) {
    ADD(b, "*2\r\n$5\r\nWATCH\r\n" RESP_KEY_HEAD), wire_add_key(b, key), ADD(b, "\r\n");
    wire_expect(b, DUE_OK, key);
    resp_get(b, key);
}

static void resp_txn_write(struct batch *b, uint64_t key) {
    ADD(b, "*1\r\n$5\r\nMULTI\r\n");
    wire_expect(b, DUE_OK, key);
    resp_put_due(b, key, DUE_QUEUED);
    ADD(b, "*1\r\n$4\r\nEXEC\r\n");
    wire_expect(b, DUE_COMMIT, key);
}

/* Bytes of one RESP value, arrays included; 0: incomplete; -1: not RESP. */
static long resp_bytes(const char *in, size_t bytes) {
    if (bytes == 0) return 0;
    if (!strchr("+-:$*", in[0])) return -1;
    size_t line = line_bytes(in, bytes);
    if (line == 0) return 0;
    long total = (long)line;
    long count = strtol(in + 1, NULL, 10); /* stops at CR */
    if (in[0] == '$' && count >= 0) total += count + 2;
    if (in[0] == '*') {
        for (long i = 0; i < count; i++) {
            long element = resp_bytes(in + total, bytes - (size_t)total);
            if (element <= 0) return element;
            total += element;
        }
    }
    return (size_t)total <= bytes ? total : 0;
}

static long resp_reply(const char *in, size_t bytes, const struct due *due, enum verdict *verdict) {
    long reply = resp_bytes(in, bytes);
    if (reply <= 0) return reply;
    size_t length = (size_t)reply;
    switch (due->kind) {
    case DUE_OK: *verdict = right_if(same(in, length, "+OK\r\n")); break;
    case DUE_QUEUED: *verdict = right_if(same(in, length, "+QUEUED\r\n")); break;
    case DUE_DELETED: *verdict = right_if(same(in, length, ":1\r\n")); break;
    case DUE_VALUE: *verdict = right_if(wire_is_value(in, length, resp_value_head, "\r\n", due->key)); break;
    case DUE_COMMIT:
        *verdict = same(in, length, "*-1\r\n") ? REPLY_CONFLICT : right_if(same(in, length, "*1\r\n+OK\r\n"));
        break;
    }
    return reply;
}

/* ---- the text protocol of memcached ---- */

static void memcached_put(struct batch *b, uint64_t key) {
    ADD(b, "set "), wire_add_key(b, key), wire_add(b, memcached_set_tail, strlen(memcached_set_tail));
    wire_add_value(b, key), ADD(b, "\r\n");
    wire_expect(b, DUE_OK, key);
}

static void memcached_get(struct batch *b, uint64_t key) {
    ADD(b, "get "), wire_add_key(b, key), ADD(b, "\r\n");
    wire_expect(b, DUE_VALUE, key);
}

static void memcached_del(struct batch *b, uint64_t key) {
    ADD(b, "delete "), wire_add_key(b, key), ADD(b, "\r\n");
    wire_expect(b, DUE_DELETED, key);
}

static long memcached_reply(const char *in, size_t bytes, const struct due *due, enum verdict *verdict) {
    size_t line = line_bytes(in, bytes);
    if (line == 0) return 0;
    if (!starts(in, line, "VALUE ")) {
        const char *wanted = due->kind == DUE_DELETED ? "DELETED\r\n" : "STORED\r\n";
        *verdict = right_if(due->kind != DUE_VALUE && same(in, line, wanted));
        return (long)line;
    }
    char head[sizeof "VALUE " + KEY_BYTES + sizeof memcached_value_tail] = "VALUE ";
    key_text(head + strlen("VALUE "), due->key);
    strcpy(head + strlen("VALUE ") + KEY_BYTES, memcached_value_tail);
    if (due->kind != DUE_VALUE || !same(in, line, head)) return -1;
    size_t reply = line + value_bytes + strlen("\r\nEND\r\n");
    if (bytes < reply) return 0;
    *verdict = right_if(wire_is_value(in, reply, head, "\r\nEND\r\n", due->key));
    return (long)reply;
}

/* ---- the table ---- */

static const struct wire wires[] = {
    {"line", 1, 1, 0, line_put, line_get, line_del, line_txn_read, line_txn_write, line_nest, line_reply},
    {"echo", 1, 1, 0, line_put, line_get, line_del, line_txn_read, line_txn_write, line_nest, echo_reply},
    {"resp", 1, 0, 0, resp_put, resp_get, resp_del, resp_txn_read, resp_txn_write, NULL, resp_reply},
    {"memcached", 0, 0, 0, memcached_put, memcached_get, memcached_del, NULL, NULL, NULL, memcached_reply},
};

const struct wire *wire_find(const char *name) {
    for (size_t i = 0; i < sizeof wires / sizeof wires[0]; i++)
        if (strcmp(wires[i].name, name) == 0) return &wires[i];
    return strcmp(etcd_wire.name, name) == 0 ? &etcd_wire : NULL;
}
