/* The limit: a server that does nothing but what any server must do. For each LF it receives it answers one Ok line;
 * it parses nothing and stores nothing. One thread, epoll, one recv and one send per wake-up of a connection.
 *
 * Usage: echo PORT (on 127.0.0.1). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char reply[] = "{\"status\": \"Ok\"}\n";
enum { REPLY_BYTES = sizeof reply - 1, IN_BYTES = 1 << 18, REPLIES_AT_ONCE = 4096, EVENTS = 512 };

struct connection {
    int fd;
    size_t owed_bytes; /* of replies; the first may have been sent in part */
};

static char in[IN_BYTES];
static char replies[REPLIES_AT_ONCE * REPLY_BYTES];
static int epoll_fd;

static void fail(const char *what) {
    fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) != 0) fail("epoll_ctl");
}

static void close_connection(struct connection *c) {
    close(c->fd);
    free(c);
}

/* Send what is owed. Returns 0 when the peer is gone. */
static int pay(struct connection *c) {
    while (c->owed_bytes) {
        size_t begin = (REPLY_BYTES - c->owed_bytes % REPLY_BYTES) % REPLY_BYTES; /* sent of the first reply */
        size_t bytes = sizeof replies - begin < c->owed_bytes ? sizeof replies - begin : c->owed_bytes;
        ssize_t sent = send(c->fd, replies + begin, bytes, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        c->owed_bytes -= (size_t)sent;
    }
    return 1;
}

static size_t count_lines(const char *bytes, size_t count) {
    size_t lines = 0;
    const char *end = bytes + count;
    while ((bytes = memchr(bytes, '\n', (size_t)(end - bytes)))) lines++, bytes++;
    return lines;
}

static void serve(struct connection *c, uint32_t events) {
    int was_owing = c->owed_bytes > 0;
    if (!was_owing && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t got = recv(c->fd, in, sizeof in, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            close_connection(c);
            return;
        }
        if (got > 0) c->owed_bytes += count_lines(in, (size_t)got) * REPLY_BYTES;
    }
    if (!pay(c)) {
        close_connection(c);
        return;
    }
    int owing = c->owed_bytes > 0; /* read no more from a peer that does not read its replies */
    if (owing != was_owing) watch(c, EPOLL_CTL_MOD, owing ? EPOLLOUT : EPOLLIN);
}

static void accept_connection(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
    if (listen(fd, 1024) != 0) fail("listen");
    return fd;
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the harness */
    if (argc != 2) {
        fprintf(stderr, "usage: echo PORT\n");
        return 2;
    }
    for (size_t i = 0; i < REPLIES_AT_ONCE; i++) memcpy(replies + i * REPLY_BYTES, reply, REPLY_BYTES);
    epoll_fd = epoll_create1(0);
    struct connection listener = {.fd = listen_on(atoi(argv[1]))};
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &listener)
                accept_connection(listener.fd);
            else
                serve(c, events[i].events);
        }
    }
}
