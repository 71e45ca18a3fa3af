/* The link on Linux: a board whose line is its standard input and output, or with --listen PORT a TCP port of loopback.
 *
 * Other machines reach it through `python -m firmware_bridge.agent`, which asks for a secret first. What one client
 * uploaded is there for the next one; there is one client at a time.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "link.h"

static int line_in, line_out, line_lost;

static void put(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    while (count && !line_lost) {
        const ssize_t some = write(line_out, bytes, count);
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0) {
            line_lost = 1;
        } else {
            bytes += some;
            count -= (size_t)some;
        }
    }
}

static uint64_t ticks(void *context) {
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void serve(snn_link *link) {
    static uint8_t buffer[1 << 16];
    line_lost = 0;
    while (!line_lost) {
        const ssize_t some = read(line_in, buffer, sizeof buffer);
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0) break;
        snn_link_take(link, buffer, (size_t)some);
    }
    snn_link_take(link, (const uint8_t[]){0}, 1); /* whatever was half said is over */
}

static int usage(void) {
    fputs("usage: snn-link [--memory MIB] [--listen PORT]\n"
          "  MIB: memory for plan, picture and work, 1 to 65536, default 256; PORT: 0 to 65535 of 127.0.0.1, else stdin\n",
          stderr);
    return 2;
}

int main(int count, char **arguments) {
    long mebibytes = 256, port_number = -1;
    for (int i = 1; i < count; i += 2) {
        char *end = NULL;
        const long number = i + 1 < count ? strtol(arguments[i + 1], &end, 10) : -1;
        if (!end || *end || end == arguments[i + 1] || number < 0 || number > 65536) return usage();
        if (!strcmp(arguments[i], "--memory") && number) mebibytes = number;
        else if (!strcmp(arguments[i], "--listen") && number < 65536) port_number = number;
        else return usage();
    }
    const size_t bytes = (size_t)mebibytes << 20;
    void *memory = bytes >> 20 == (size_t)mebibytes ? malloc(bytes) : NULL;
    static const snn_link_port port = {
        .write = put, .ticks = ticks, .ticks_per_second = 1000000000u, .clock = SNN_WALL_NS, .build = SNN_BUILD};
    static snn_link link;
    if (!memory || !snn_link_start(&link, &port, memory, bytes, SNN_LINK_MOST_BODY)) {
        fprintf(stderr, "snn-link: there are no %ld MiB of memory; ask for less with --memory\n", mebibytes);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (port_number < 0) {
        line_in = 0;
        line_out = 1;
        serve(&link);
        return 0;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_number)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    const int on = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, length) || listen(listening, 4) ||
        getsockname(listening, (struct sockaddr *)&address, &length)) {
        fprintf(stderr, "snn-link: port %ld cannot be listened on: %s\n", port_number, strerror(errno));
        return 2;
    }
    printf("listening on 127.0.0.1:%u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        const int client = accept(listening, NULL, NULL);
        if (client < 0) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        line_in = line_out = client;
        serve(&link);
        close(client);
    }
}
