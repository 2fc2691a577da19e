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
};

enum verdict { REPLY_RIGHT, REPLY_CONFLICT, REPLY_WRONG };

/* The most one operation of any workload can need. */
enum { OPERATION_DUES = 5, OPERATION_BYTES = 512 }; /* OPERATION_BYTES is beside the value */

struct wire {
    const char *name;
    int has_transactions;
    int has_nesting;
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

/* The wire called `name`: line, resp, memcached or echo; NULL if there is none. */
const struct wire *wire_find(const char *name);

#endif
