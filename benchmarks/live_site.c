/* A site that answers as a model does: a head, then a chunk every so often. One thread, epoll.

   usage: live_site LATENCY_US GAP_US CHUNKS (PATH HEAD CHUNK TAIL)...
   Prints its port. A request to a PATH gets HEAD and the first CHUNK after LATENCY_US, another CHUNK
   every GAP_US, and TAIL together with the last one. It ends when its standard input does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 65536
#define REQUEST 8192

typedef struct { const char *path, *head, *chunk, *tail; } Answer;
typedef struct { char in[REQUEST]; size_t length; const Answer *answer; long sent, serial; } Peer;
typedef struct { int fd; long serial, due; } Due;

static Peer *peers[MOST];
/* Due times are in the order in which they are added, one queue for each kind of pause. */
static struct { Due *items; size_t first, count, size; long pause; } queues[2];
static Answer answers[16];
static int answer_count;
static long chunks, serials;

static long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void add(int kind, int fd, long from) {
    if (queues[kind].count == queues[kind].size) {
        size_t size = queues[kind].size ? queues[kind].size * 2 : 1024;
        Due *items = malloc(size * sizeof *items);
        for (size_t i = 0; i < queues[kind].count; i++)
            items[i] = queues[kind].items[(queues[kind].first + i) % queues[kind].size];
        free(queues[kind].items);
        queues[kind].items = items, queues[kind].first = 0, queues[kind].size = size;
    }
    size_t at = (queues[kind].first + queues[kind].count++) % queues[kind].size;
    queues[kind].items[at] = (Due){fd, peers[fd]->serial, from + queues[kind].pause};
}

static void hang_up(int fd) {
    close(fd);
    free(peers[fd]);
    peers[fd] = NULL;
}

/* Sends what is due. Answers are small: one that does not fit into the socket's buffer is given up. */
static void advance(Due due) {
    Peer *peer = peers[due.fd];
    if (!peer || peer->serial != due.serial || !peer->answer) return;
    char out[16384];
    const Answer *answer = peer->answer;
    int first = !peer->sent, last = ++peer->sent == chunks;
    int length = snprintf(out, sizeof out, "%s%s%s", first ? answer->head : "", answer->chunk,
                          last ? answer->tail : "");
    if (last) peer->answer = NULL, peer->length = 0;
    else add(1, due.fd, due.due);
    if (send(due.fd, out, length, MSG_NOSIGNAL) != length) hang_up(due.fd);
}

static void receive(int fd) {
    Peer *peer = peers[fd];
    ssize_t got = recv(fd, peer->in + peer->length, REQUEST - 1 - peer->length, 0);
    if (got <= 0) { hang_up(fd); return; }
    peer->in[peer->length += got] = 0;
    char *end = strstr(peer->in, "\r\n\r\n"), *found = strcasestr(peer->in, "\r\ncontent-length:");
    if (!end || peer->length < (size_t)(end + 4 - peer->in) + (found ? atol(found + 17) : 0)) return;
    for (int i = 0; i < answer_count; i++) {
        char *path = strchr(peer->in, ' ');
        size_t length = strlen(answers[i].path);
        if (path && !strncmp(path + 1, answers[i].path, length) && path[1 + length] == ' ')
            peer->answer = &answers[i];
    }
    if (!peer->answer) { hang_up(fd); return; }
    peer->sent = 0;
    add(0, fd, now_us());
}

static void accept_all(int listener, int poller) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MOST) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        peers[fd] = calloc(1, sizeof(Peer));
        peers[fd]->serial = ++serials;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static int wait_ms(void) {
    long soonest = -1;
    for (int kind = 0; kind < 2; kind++)
        if (queues[kind].count) {
            long left = queues[kind].items[queues[kind].first].due - now_us();
            left = left < 0 ? 0 : left;
            soonest = soonest < 0 || left < soonest ? left : soonest;
        }
    return soonest < 0 ? -1 : (int)((soonest + 999) / 1000);
}

int main(int argc, char **argv) {
    queues[0].pause = atol(argv[1]), queues[1].pause = atol(argv[2]), chunks = atol(argv[3]);
    for (int i = 4; i + 3 < argc && answer_count < 16; i += 4)
        answers[answer_count++] = (Answer){argv[i], argv[i + 1], argv[i + 2], argv[i + 3]};
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
    if (bind(listener, (void *)&address, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (void *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        int fd = i ? listener : 0;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
    for (struct epoll_event events[512];;) {
        int count = epoll_wait(poller, events, 512, wait_ms());
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (!fd) return 0;
            if (fd == listener) accept_all(listener, poller);
            else if (peers[fd]) receive(fd);
        }
        for (int kind = 0; kind < 2; kind++)
            while (queues[kind].count) {
                Due due = queues[kind].items[queues[kind].first];
                if (due.due > now_us()) break;
                queues[kind].first = (queues[kind].first + 1) % queues[kind].size;
                queues[kind].count--;
                advance(due);
            }
    }
}
