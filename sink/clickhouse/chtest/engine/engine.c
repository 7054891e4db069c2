/*
 * engine: one ClickHouse engine (libchdb.so) behind a Unix socket.
 *
 *   engine LIBCHDB DATADIR SOCKET [CONFIG.xml]
 *
 * Every connection to the socket is one session of the engine: what SET, USE and temporary tables do
 * lasts until it closes, and sessions run beside one another. On a connection the engine reads
 * requests and answers each in order. Integers are native u64:
 *
 *   request:  format length, query length, format, query
 *   answer:   status (0 result, 1 exception text), length, bytes
 *
 * "ready" on stdout says that the socket listens. When stdin closes, and it closes however the parent
 * dies, the process ends at once, even in the middle of a query. Nothing is flushed on that way, on
 * purpose: for the data directory it is a kill -9.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef void *connection; /* chdb_connection */
typedef void *result;     /* chdb_result * */

static connection *(*chdb_connect)(int, char **);
static void (*chdb_close_conn)(connection *);
static result (*chdb_query_n)(connection, const char *, size_t, const char *, size_t);
static char *(*chdb_result_buffer)(result);
static size_t (*chdb_result_length)(result);
static const char *(*chdb_result_error)(result);
static void (*chdb_destroy_query_result)(result);

/* What every session is opened with; set once, before the first. */
static int session_argc;
static char *session_argv[3];

static void die(const char *what, const char *why)
{
	fprintf(stderr, "engine: %s: %s\n", what, why ? why : "unknown error");
	_exit(1);
}

static void *symbol(void *lib, const char *name)
{
	void *p = dlsym(lib, name);
	if (!p)
		die(name, dlerror());
	return p;
}

static void load(const char *path)
{
	void *lib = dlopen(path, RTLD_NOW);
	if (!lib)
		die("dlopen", dlerror());
	chdb_connect = symbol(lib, "chdb_connect");
	chdb_close_conn = symbol(lib, "chdb_close_conn");
	chdb_query_n = symbol(lib, "chdb_query_n");
	chdb_result_buffer = symbol(lib, "chdb_result_buffer");
	chdb_result_length = symbol(lib, "chdb_result_length");
	chdb_result_error = symbol(lib, "chdb_result_error");
	chdb_destroy_query_result = symbol(lib, "chdb_destroy_query_result");
}

static connection *open_session(void)
{
	connection *c = chdb_connect(session_argc, session_argv);
	return c && *c ? c : NULL;
}

/* read_all and write_all return 0 when the other side is gone. */
static int read_all(int fd, void *buf, size_t n)
{
	for (char *p = buf; n > 0;) {
		ssize_t got = read(fd, p, n);
		if (got <= 0)
			return 0;
		p += got;
		n -= (size_t)got;
	}
	return 1;
}

static int write_all(int fd, const void *buf, size_t n)
{
	for (const char *p = buf; n > 0;) {
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
		if (put <= 0)
			return 0;
		p += put;
		n -= (size_t)put;
	}
	return 1;
}

static int answer(int fd, uint64_t status, const char *bytes, size_t n)
{
	uint64_t head[2] = { status, n };
	return write_all(fd, head, sizeof head) && write_all(fd, bytes, n);
}

static int run(int fd, connection c, const char *format, size_t nformat, const char *query, size_t nquery)
{
	result r = chdb_query_n(c, query, nquery, format, nformat);
	const char *err = r ? chdb_result_error(r) : "the engine returned nothing";
	int ok = err ? answer(fd, 1, err, strlen(err)) : answer(fd, 0, chdb_result_buffer(r), chdb_result_length(r));
	if (r)
		chdb_destroy_query_result(r);
	return ok;
}

static void *session(void *arg)
{
	int fd = (int)(intptr_t)arg, ok = 1;
	connection *c = open_session();
	uint64_t head[2];

	while (ok && c && read_all(fd, head, sizeof head)) {
		char *format = malloc(head[0] + 1), *query = malloc(head[1] + 1);
		if (!format || !query)
			die("malloc", "out of memory");
		ok = read_all(fd, format, head[0]) && read_all(fd, query, head[1]);
		format[head[0]] = query[head[1]] = 0;
		ok = ok && run(fd, *c, format, head[0], query, head[1]);
		free(format);
		free(query);
	}
	if (c)
		chdb_close_conn(c);
	close(fd);
	return NULL;
}

static void *watch_parent(void *unused)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = 0 };
	while (poll(&p, 1, -1) < 1 || !(p.revents & (POLLHUP | POLLERR)))
		;
	_exit(0);
	return unused;
}

static char *option(const char *name, const char *value)
{
	char *s;
	if (asprintf(&s, "%s%s", name, value) < 0)
		die("asprintf", "out of memory");
	return s;
}

static void start(void *(*f)(void *), void *arg)
{
	pthread_t t;
	if (pthread_create(&t, NULL, f, arg) != 0)
		die("pthread_create", "cannot start a thread");
	pthread_detach(t);
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof a.sun_path)
		die(path, "path too long for a Unix socket");
	strcpy(a.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 64) != 0)
		die(path, "cannot listen");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 4 && argc != 5)
		die("usage", "engine LIBCHDB DATADIR SOCKET [CONFIG.xml]");
	start(watch_parent, NULL);
	load(argv[1]);
	session_argv[session_argc++] = "clickhouse";
	session_argv[session_argc++] = option("--path=", argv[2]);
	if (argc == 5)
		session_argv[session_argc++] = option("--config-file=", argv[4]);

	/* One session stays open: the library shuts down with its last one. */
	if (!open_session())
		die("chdb_connect", argv[2]);
	int listener = listen_on(argv[3]);
	(void)!write(STDOUT_FILENO, "ready\n", 6);

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			start(session, (void *)(intptr_t)fd);
	}
}
