/* gRPC as etcd speaks it, as far as PUT and GET at depth 1 need it: see wire.h.
 *
 * Each request is a stream of HTTP/2: HEADERS, whose fields are sent as they are, and one DATA. A reply ends with the
 * first HEADERS that end their stream; a call that failed has no DATA before them. What a reply's headers say is not
 * decoded. */

#define _GNU_SOURCE
#include "wire.h"

#include <string.h>

enum { FRAME_HEAD = 9, MESSAGE_HEAD = 5 };
enum frame { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Fields of HPACK: :method POST and :scheme http of its table, then names of its table with literals, and "te". */
#define FIELDS_BEFORE_PATH "\x83\x86\x04"
#define FIELDS_AFTER_PATH "\x01\x04" "etcd" "\x0f\x10\x10" "application/grpc" "\x00\x02te\x08trailers"
#define PUT_PATH "/etcdserverpb.KV/Put"
#define GET_PATH "/etcdserverpb.KV/Range"

static void add_number(struct batch *b, uint32_t number, int bytes) {
    while (bytes-- > 0) {
        char byte = (char)(number >> 8 * bytes);
        wire_add(b, &byte, 1);
    }
}

static void add_frame_head(struct batch *b, size_t bytes, enum frame type, int flags, uint32_t stream) {
    add_number(b, (uint32_t)bytes, 3);
    add_number(b, type, 1);
    add_number(b, (uint32_t)flags, 1);
    add_number(b, stream, 4);
}

/* A number of Protocol Buffers. */
static void add_varint(struct batch *b, size_t number) {
    for (; number > 127; number >>= 7) add_number(b, (uint32_t)(number & 127) | 128, 1);
    add_number(b, (uint32_t)number, 1);
}

static size_t varint_bytes(size_t number) {
    size_t bytes = 1;
    while (number >>= 7) bytes++;
    return bytes;
}

/* Write all of a request but its message. */
static void begin_request(struct batch *b, const char *path, size_t message_bytes) {
    if (b->streams == 0) {
        wire_add(b, PREFACE, sizeof PREFACE - 1);
        add_frame_head(b, 0, SETTINGS, 0, 0);
        add_frame_head(b, 4, WINDOW_UPDATE, 0, 0); /* two gigabytes of replies: there will be no second one */
        add_number(b, 0x7fff0000, 4);
    } else if (b->streams == 1)
        add_frame_head(b, 0, SETTINGS, ACK, 0);
    uint32_t stream = 2 * b->streams++ + 1;
    size_t path_bytes = strlen(path);
    size_t fields = sizeof FIELDS_BEFORE_PATH - 1 + 1 + path_bytes + sizeof FIELDS_AFTER_PATH - 1;
    add_frame_head(b, fields, HEADERS, END_HEADERS, stream);
    wire_add(b, FIELDS_BEFORE_PATH, sizeof FIELDS_BEFORE_PATH - 1);
    add_number(b, (uint32_t)path_bytes, 1);
    wire_add(b, path, path_bytes);
    wire_add(b, FIELDS_AFTER_PATH, sizeof FIELDS_AFTER_PATH - 1);
    add_frame_head(b, MESSAGE_HEAD + message_bytes, DATA, END_STREAM, stream);
    add_number(b, 0, 1); /* not compressed */
    add_number(b, (uint32_t)message_bytes, 4);
}

static void add_key_field(struct batch *b, uint64_t key) {
    add_number(b, 0x0a, 1);
    add_varint(b, KEY_BYTES);
    wire_add_key(b, key);
}

static void etcd_put(struct batch *b, uint64_t key) {
    size_t value = wire_value_bytes();
    begin_request(b, PUT_PATH, 2 + KEY_BYTES + 1 + varint_bytes(value) + value);
    add_key_field(b, key);
    add_number(b, 0x12, 1);
    add_varint(b, value);
    wire_add_value(b, key);
    wire_expect(b, DUE_OK, key);
}

static void etcd_get(struct batch *b, uint64_t key) {
    begin_request(b, GET_PATH, 2 + KEY_BYTES);
    add_key_field(b, key);
    wire_expect(b, DUE_VALUE, key);
}

/* Is the value of a key anywhere in a message? */
static int has_value(const char *in, size_t bytes, uint64_t key) {
    for (size_t value = wire_value_bytes(); bytes >= value; in++, bytes--)
        if (wire_is_value(in, value, "", "", key)) return 1;
    return 0;
}

static long etcd_reply(const char *in, size_t bytes, const struct due *due, enum verdict *verdict) {
    size_t at = 0;
    int right = 0;
    while (bytes - at >= FRAME_HEAD) {
        const unsigned char *head = (const unsigned char *)in + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        const char *body = in + at + FRAME_HEAD;
        if (head[3] == GOAWAY || head[3] > WINDOW_UPDATE) return -1;
        if (bytes - at < FRAME_HEAD + length) return 0;
        at += FRAME_HEAD + length;
        if (head[3] == DATA && length > MESSAGE_HEAD)
            right = due->kind != DUE_VALUE || has_value(body + MESSAGE_HEAD, length - MESSAGE_HEAD, due->key);
        if (head[3] == RST_STREAM || (head[3] == HEADERS && head[4] & END_STREAM)) {
            *verdict = right && head[3] == HEADERS ? REPLY_RIGHT : REPLY_WRONG;
            return (long)at;
        }
    }
    return 0;
}

const struct wire etcd_wire = {"etcd", 0, 0, 1, etcd_put, etcd_get, NULL, NULL, NULL, NULL, etcd_reply};
