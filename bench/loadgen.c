/* A load generator: one thread, epoll, closed loop. Each connection sends a batch of `depth` operations, waits for
 * every reply, checks each, and sends the next. One JSON object on stdout says what came of it.
 *
 * An operation is one request, or one whole transaction; it is counted when its last reply arrives. Replies still due
 * when the time is up are awaited but not counted, so that the server is idle when the generator leaves.
 *
 * Exit status: 0; 1 if a reply was wrong (the first is shown on stderr); 2 if the run could not be carried out. */

#define _GNU_SOURCE
#include "histogram.h"
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum workload { LOAD, UNLOAD, PUT, GET, MIXED, NEST, TXN, TXN_SPLIT };
static const char *const workload_names[] = {"load", "unload", "put", "get", "mixed", "nest", "txn", "txn-split"};

static struct {
    const char *host;
    int port;
    const struct wire *wire;
    enum workload workload;
    long connections, depth, value_bytes;
    long keys, first_key, hot_keys; /* hot_keys > 0: transactions of all connections draw from so many keys */
    long requests;                  /* operations; 0: by time */
    double seconds, warmup_s;
    long interval_us; /* > 0: one connection that sends at this pace */
    const char *setup;
    long setup_count;
    int hold;
    long server_pid;
    uint64_t seed;
} options = {.host = "127.0.0.1", .connections = 50, .depth = 1, .value_bytes = 32, .keys = 100000,
             .seconds = 1, .setup_count = 1, .seed = 1};

struct connection {
    int fd;
    int writing; /* EPOLLOUT is on, because the socket took only part of the batch */
    int second_half;
    uint64_t first_key, keys;  /* the keys a transaction of this connection draws from */
    uint64_t split_key;
    uint64_t sent_at, due_at;
    struct batch batch;
    size_t sent_bytes, answered, operations;
    char *in;
    size_t in_bytes, in_capacity;
};

static struct connection *connections;
static int epoll_fd;
static long in_flight; /* connections that wait for replies */
static uint64_t next_key, started; /* operations, for LOAD and for a run by count */
static uint64_t random_state[1];

/* What has been measured; errors count from the very start. */
static struct histogram latency;
static uint64_t operations, committed, conflicts, errors;
static int measuring, stopping;
static volatile sig_atomic_t interrupted; /* SIGTERM: the time is up now */

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(2);
}

/* ---- clocks and chance ---- */

static uint64_t read_clock(clockid_t clock) {
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

static clockid_t server_clock(void) {
    clockid_t clock;
    if (clock_getcpuclockid((pid_t)options.server_pid, &clock) != 0) fail("no process %ld", options.server_pid);
    return clock;
}

/* splitmix64, scaled to [0, limit) by multiplication, which is far cheaper than a remainder. */
static uint64_t random_below(uint64_t limit) {
    uint64_t z = (random_state[0] += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint64_t)(((unsigned __int128)(z ^ (z >> 31)) * limit) >> 64);
}

/* ---- batches ---- */

static uint64_t any_key(void) { return (uint64_t)options.first_key + random_below((uint64_t)options.keys); }

static uint64_t transaction_key(const struct connection *c) { return c->first_key + random_below(c->keys); }

static void add_operation(struct connection *c) {
    const struct wire *wire = options.wire;
    struct batch *b = &c->batch;
    uint64_t key;
    switch (options.workload) {
    case LOAD: wire->put(b, next_key++); break;
    case UNLOAD: wire->del(b, next_key++); break;
    case PUT: wire->put(b, any_key()); break;
    case GET: wire->get(b, any_key()); break;
    case MIXED: (random_below(2) ? wire->put : wire->get)(b, any_key()); break;
    case NEST: wire->nest(b); break;
    case TXN:
        key = transaction_key(c);
        wire->txn_read(b, key), wire->txn_write(b, key);
        break;
    case TXN_SPLIT:
        if (c->second_half)
            wire->txn_write(b, c->split_key);
        else
            wire->txn_read(b, c->split_key = transaction_key(c));
        break;
    }
    b->due[b->due_count - 1].ends_operation = options.workload != TXN_SPLIT || c->second_half;
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

static void send_rest(struct connection *c) {
    while (c->sent_bytes < c->batch.out_bytes) {
        ssize_t sent = send(c->fd, c->batch.out + c->sent_bytes, c->batch.out_bytes - c->sent_bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) fail("send: %s", strerror(errno));
            break;
        }
        c->sent_bytes += (size_t)sent;
    }
    int unfinished = c->sent_bytes < c->batch.out_bytes;
    if (unfinished != c->writing) watch(c, EPOLL_CTL_MOD, unfinished ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->writing = unfinished;
}

static uint64_t interval_ns(void) { return (uint64_t)options.interval_us * 1000u; }

/* Wait until the next batch is due. */
static void keep_pace(struct connection *c) {
    uint64_t now = now_ns();
    while (c->due_at <= now) c->due_at += interval_ns();
    struct timespec due = {(time_t)(c->due_at / 1000000000u), (long)(c->due_at % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static void send_batch(struct connection *c) {
    uint64_t left = options.requests ? (uint64_t)options.requests - started : UINT64_MAX;
    if (!c->second_half && (stopping || left == 0)) return;
    c->batch.out_bytes = c->batch.due_count = 0;
    c->sent_bytes = c->answered = 0;
    if (!c->second_half) {
        c->operations = left < (uint64_t)options.depth ? (size_t)left : (size_t)options.depth;
        started += c->operations;
    }
    for (size_t i = 0; i < c->operations; i++) add_operation(c);
    if (!c->second_half) {
        if (options.interval_us) keep_pace(c);
        c->sent_at = now_ns();
    }
    in_flight++;
    send_rest(c);
}

/* At a pace, add what the batches would have waited that were due during the wait for this one, so that a pause
 * weighs as much as it would for clients who do not wait for each other (as HdrHistogram corrects it). */
static void record_latency(uint64_t waited) {
    histogram_add(&latency, waited);
    if (options.interval_us)
        while (waited > interval_ns()) histogram_add(&latency, waited -= interval_ns());
}

static void batch_answered(struct connection *c) {
    in_flight--;
    if (options.workload == TXN_SPLIT) {
        c->second_half = !c->second_half;
        if (c->second_half) {
            send_batch(c);
            return;
        }
    }
    if (measuring) record_latency(now_ns() - c->sent_at);
    send_batch(c);
}

static void show_wrong(const char *reply, long bytes) {
    if (errors++) return;
    fputs("loadgen: unexpected reply: ", stderr);
    fwrite(reply, 1, bytes < 300 ? (size_t)bytes : 300, stderr);
    fputc('\n', stderr);
}

static void take_replies(struct connection *c) {
    size_t taken = 0;
    while (c->answered < c->batch.due_count) {
        const struct due *due = &c->batch.due[c->answered];
        enum verdict verdict = REPLY_WRONG;
        long bytes = options.wire->reply(c->in + taken, c->in_bytes - taken, due, &verdict);
        if (bytes == 0) break;
        if (bytes < 0) {
            show_wrong(c->in + taken, (long)(c->in_bytes - taken));
            fail("the reply is not of this protocol");
        }
        if (verdict == REPLY_WRONG) show_wrong(c->in + taken, bytes);
        if (measuring) {
            operations += (uint64_t)due->ends_operation;
            conflicts += verdict == REPLY_CONFLICT;
            committed += verdict == REPLY_RIGHT && due->kind == DUE_COMMIT;
        }
        taken += (size_t)bytes;
        c->answered++;
    }
    c->in_bytes -= taken;
    memmove(c->in, c->in + taken, c->in_bytes);
    if (c->answered < c->batch.due_count) return;
    if (c->in_bytes && !options.wire->has_frames) fail("a reply that nobody asked for: %.*s", (int)c->in_bytes, c->in);
    batch_answered(c);
}

static void receive(struct connection *c) {
    if (c->in_bytes == c->in_capacity) { /* one reply is longer than the buffer */
        c->in_capacity *= 2;
        c->in = realloc(c->in, c->in_capacity);
        if (!c->in) fail("out of memory");
    }
    ssize_t got = recv(c->fd, c->in + c->in_bytes, c->in_capacity - c->in_bytes, 0);
    if (got == 0) fail("the server closed a connection: %.*s", (int)c->in_bytes, c->in);
    if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        fail("recv: %s", strerror(errno));
    }
    c->in_bytes += (size_t)got;
    take_replies(c);
}

/* ---- connections ---- */

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (!memory) fail("out of memory");
    return memory;
}

/* Send the setup line `setup_count` times and wait for as many Ok lines; the socket still blocks. */
static void set_up(struct connection *c) {
    char line[256];
    int line_bytes = snprintf(line, sizeof line, "%s\n", options.setup);
    for (long i = 0; i < options.setup_count; i++) {
        size_t got = 0;
        char reply[1024];
        if (send(c->fd, line, (size_t)line_bytes, MSG_NOSIGNAL) != line_bytes) fail("send: %s", strerror(errno));
        while (got == 0 || reply[got - 1] != '\n') {
            ssize_t bytes = recv(c->fd, reply + got, sizeof reply - got, 0);
            if (bytes <= 0) fail("the server closed a connection during setup");
            got += (size_t)bytes;
        }
        if (strncmp(reply, "{\"status\": \"Ok\"", 15) != 0) fail("setup: %.*s", (int)got, reply);
    }
}

static void open_connection(struct connection *c, const struct sockaddr_in *address) {
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    if (connect(c->fd, (const struct sockaddr *)address, sizeof *address) != 0) fail("connect: %s", strerror(errno));
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options.setup) set_up(c);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    size_t depth = (size_t)options.depth;
    c->batch.out = allocate(depth * ((size_t)options.value_bytes + OPERATION_BYTES));
    c->batch.due = allocate(depth * OPERATION_DUES * sizeof(struct due));
    c->in_capacity = 16384 + 2 * (size_t)options.value_bytes;
    c->in = allocate(c->in_capacity);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void open_connections(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1) fail("not an IPv4 address: %s", options.host);
    epoll_fd = epoll_create1(0);
    connections = allocate((size_t)options.connections * sizeof *connections);
    uint64_t share = (uint64_t)(options.keys / options.connections);
    for (long i = 0; i < options.connections; i++) {
        struct connection *c = &connections[i];
        c->first_key = (uint64_t)options.first_key + (options.hot_keys ? 0 : (uint64_t)i * share);
        c->keys = options.hot_keys ? (uint64_t)options.hot_keys : share;
        open_connection(c, &address);
    }
}

/* ---- the run ---- */

/* Serve events until `until` or SIGTERM, or, if `until` is 0, until no connection waits for a reply. */
static void serve(uint64_t until) {
    enum { EVENTS = 512, STALL_MS = 30000 };
    static struct epoll_event events[EVENTS];
    while (in_flight) {
        int timeout = STALL_MS;
        if (until) {
            uint64_t now = now_ns();
            if (now >= until || interrupted) return;
            uint64_t left_ms = (until - now) / 1000000u + 1;
            if (left_ms < STALL_MS) timeout = (int)left_ms;
        }
        int ready = epoll_wait(epoll_fd, events, EVENTS, timeout);
        if (ready == 0 && timeout == STALL_MS) fail("no reply for %d seconds", STALL_MS / 1000);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) send_rest(c);
            if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(c);
        }
    }
}

struct instant {
    uint64_t wall, own_cpu, server_cpu;
};

static struct instant take_instant(void) {
    return (struct instant){now_ns(), read_clock(CLOCK_PROCESS_CPUTIME_ID),
                            options.server_pid ? read_clock(server_clock()) : 0};
}

static void report(struct instant from, struct instant to) {
    double seconds = (double)(to.wall - from.wall) / 1e9;
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"requests_per_s\": %.1f, \"errors\": %llu, "
           "\"committed\": %llu, \"conflicts\": %llu, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
           "\"generator_cpu_s\": %.6f, \"server_cpu_s\": %.6f}\n",
           (unsigned long long)operations, seconds, (double)operations / seconds, (unsigned long long)errors,
           (unsigned long long)committed, (unsigned long long)conflicts,
           (double)histogram_quantile(&latency, 0.5) / 1e3, (double)histogram_quantile(&latency, 0.99) / 1e3,
           (double)histogram_quantile(&latency, 0.999) / 1e3, (double)latency.max / 1e3,
           (double)(to.own_cpu - from.own_cpu) / 1e9, (double)(to.server_cpu - from.server_cpu) / 1e9);
}

static void run(void) {
    uint64_t begin = now_ns();
    uint64_t warm_until = begin + (uint64_t)(options.warmup_s * 1e9);
    measuring = options.warmup_s == 0;
    struct instant from = take_instant();
    for (long i = 0; i < options.connections; i++) {
        connections[i].due_at = now_ns();
        send_batch(&connections[i]);
    }
    if (!measuring) {
        serve(warm_until);
        from = take_instant();
        measuring = 1;
    }
    serve(options.requests ? 0 : from.wall + (uint64_t)(options.seconds * 1e9));
    struct instant to = take_instant();
    measuring = 0;
    stopping = 1;
    serve(0);
    report(from, to);
}

/* ---- the command line ---- */

enum option_name {
    HOST = 1, PORT, PROTOCOL, WORKLOAD, CONNECTIONS, DEPTH, VALUE_BYTES, KEYS, FIRST_KEY, HOT_KEYS, REQUESTS,
    SECONDS, WARMUP, INTERVAL, SETUP, SETUP_COUNT, HOLD, SERVER_PID, SEED
};

static const struct option flags[] = {
    {"host", 1, 0, HOST}, {"port", 1, 0, PORT}, {"protocol", 1, 0, PROTOCOL}, {"workload", 1, 0, WORKLOAD},
    {"connections", 1, 0, CONNECTIONS}, {"depth", 1, 0, DEPTH}, {"value-bytes", 1, 0, VALUE_BYTES},
    {"keys", 1, 0, KEYS}, {"first-key", 1, 0, FIRST_KEY}, {"hot-keys", 1, 0, HOT_KEYS},
    {"requests", 1, 0, REQUESTS}, {"seconds", 1, 0, SECONDS}, {"warmup-s", 1, 0, WARMUP},
    {"interval-us", 1, 0, INTERVAL}, {"setup", 1, 0, SETUP}, {"setup-count", 1, 0, SETUP_COUNT},
    {"hold", 0, 0, HOLD}, {"server-pid", 1, 0, SERVER_PID}, {"seed", 1, 0, SEED}, {0, 0, 0, 0}};

static long number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < 0) fail("not a number: %s", text);
    return value;
}

static enum workload find_workload(const char *name) {
    for (int i = 0; i <= TXN_SPLIT; i++)
        if (strcmp(workload_names[i], name) == 0) return (enum workload)i;
    fail("unknown workload: %s", name);
    return LOAD;
}

static void read_options(int argc, char **argv) {
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case HOST: options.host = optarg; break;
        case PORT: options.port = (int)number(optarg); break;
        case PROTOCOL: options.wire = wire_find(optarg); break;
        case WORKLOAD: options.workload = find_workload(optarg); break;
        case CONNECTIONS: options.connections = number(optarg); break;
        case DEPTH: options.depth = number(optarg); break;
        case VALUE_BYTES: options.value_bytes = number(optarg); break;
        case KEYS: options.keys = number(optarg); break;
        case FIRST_KEY: options.first_key = number(optarg); break;
        case HOT_KEYS: options.hot_keys = number(optarg); break;
        case REQUESTS: options.requests = number(optarg); break;
        case SECONDS: options.seconds = atof(optarg); break;
        case WARMUP: options.warmup_s = atof(optarg); break;
        case INTERVAL: options.interval_us = number(optarg); break;
        case SETUP: options.setup = optarg; break;
        case SETUP_COUNT: options.setup_count = number(optarg); break;
        case HOLD: options.hold = 1; break;
        case SERVER_PID: options.server_pid = number(optarg); break;
        case SEED: options.seed = (uint64_t)number(optarg); break;
        default: exit(2);
        }
    }
    if (optind < argc) fail("unexpected argument: %s", argv[optind]);
    if (!options.wire) fail("--protocol is line, resp, memcached, echo or etcd");
    if (options.wire->has_frames && options.depth > 1) fail("this protocol is spoken at depth 1");
    if (options.port < 1 || options.port > 65535) fail("--port is needed");
    if (options.connections < 1 || options.depth < 1 || options.keys < options.connections)
        fail("--connections and --depth are at least 1, --keys at least --connections");
    if (options.workload >= TXN && !options.wire->has_transactions) fail("this protocol has no transactions");
    if (options.workload == NEST && !options.wire->has_nesting) fail("this protocol has no nested transactions");
    if (options.workload == TXN_SPLIT && options.depth != 1) fail("txn-split needs --depth 1");
    if (options.interval_us && options.connections != 1) fail("--interval-us needs --connections 1");
    if (options.workload == LOAD || options.workload == UNLOAD) options.requests = options.keys;
    if (options.requests && options.warmup_s > 0) fail("a run by count has no warm-up");
}

/* Tell the parent that all connections stand, and wait for its line (or its end) before sending anything. */
static void hold(void) {
    puts("ready");
    fflush(stdout);
    int character;
    while ((character = getchar()) != EOF && character != '\n') {}
}

static void interrupt(int number_of_signal) {
    (void)number_of_signal;
    interrupted = 1;
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the harness */
    signal(SIGTERM, interrupt);
    read_options(argc, argv);
    prctl(PR_SET_TIMERSLACK, 1000);
    random_state[0] = options.seed;
    next_key = (uint64_t)options.first_key;
    wire_set_value_bytes((size_t)options.value_bytes);
    open_connections();
    if (options.hold) hold();
    run();
    return errors ? 1 : 0;
}
