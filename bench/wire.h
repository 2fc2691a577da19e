/* The wire formats the generator speaks: what a request looks like and whether a reply is the right one.
 * It knows nothing of sockets, time or workloads. */

#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum { KEY_BYTES = 16 };

/* What the next reply has to say. */
enum due_kind { DUE_OK, DUE_VALUE, DUE_DELETED, DUE_QUEUED, DUE_COMMIT };

struct due {
    enum due_kind kind;
    int ends_operation;
    uint64_t key;
};

/* Requests that leave together, and the replies they are owed, in order. */
struct batch {
    char *out;
    size_t out_bytes;
    struct due *due;
    size_t due_count;
    uint32_t streams; /* of HTTP/2: how many requests have been written on this connection */
};

enum verdict { REPLY_RIGHT, REPLY_CONFLICT, REPLY_WRONG };

/* The most one operation of any workload can need. */
enum { OPERATION_DUES = 5, OPERATION_BYTES = 512 }; /* OPERATION_BYTES is beside the value */

struct wire {
    const char *name;
    int has_transactions;
    int has_nesting;
    int has_frames; /* the server may send what nobody asked for; and replies come in order at depth 1 only */
    void (*put)(struct batch *, uint64_t key);
    void (*get)(struct batch *, uint64_t key);
    void (*del)(struct batch *, uint64_t key);
    void (*txn_read)(struct batch *, uint64_t key);  /* begin, read the key */
    void (*txn_write)(struct batch *, uint64_t key); /* write the key, end */
    void (*nest)(struct batch *);                    /* open a frame and roll it back */
    /* Bytes of the first complete reply in `in`; 0: more is needed; -1: this is not the protocol. */
    long (*reply)(const char *in, size_t bytes, const struct due *due, enum verdict *verdict);
};

/* Values are `bytes` long and begin with their key, so that a GET can tell a wrong value from the right one. */
void wire_set_value_bytes(size_t bytes);

/* The wire called `name`: line, resp, memcached, echo or etcd; NULL if there is none. */
const struct wire *wire_find(const char *name);

extern const struct wire etcd_wire; /* etcd_wire.c */

/* What the wires share. */
void wire_add(struct batch *b, const char *bytes, size_t count);
void wire_add_key(struct batch *b, uint64_t key);
void wire_add_value(struct batch *b, uint64_t key);
size_t wire_value_bytes(void);
void wire_expect(struct batch *b, enum due_kind kind, uint64_t key);
int wire_is_value(const char *in, size_t bytes, const char *head, const char *tail, uint64_t key);

#endif
