package chtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wattline/deploy/debian"
)

// ErrDown is a query's error when the engine's process is not there, or dies during it.
var ErrDown = errors.New("chtest: the engine is down")

// An Exception is the engine's answer instead of a result: "Code: 60. DB::Exception: ...".
type Exception struct{ Text string }

func (e *Exception) Error() string { return e.Text }

// Engine is one engine process and its data directory. Its methods are safe for concurrent use.
type Engine struct {
	in     installation
	data   string // the data directory, survives Kill
	socket string // in a folder of its own with a short name: Unix sockets end at 107 bytes
	config string // path of a configuration file, or ""

	mu      sync.Mutex // guards what follows
	process *process   // nil while down
}

// process is one life of the engine. Started by launch; exited is closed by the goroutine that waits for it.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer // closing it ends the process
	stderr *bytes.Buffer
	exited chan struct{}
}

// Cluster is a cluster of one shard with one replica, which an engine can be configured to know. Tables of
// engine Distributed reach the shard by the native protocol.
type Cluster struct {
	Name string
	Addr string // host:port of the shard's native protocol
}

// StartEngine starts an engine for one test, which may kill it, and ends it with the test. cluster may be nil. A test
// on a machine that cannot have an engine is left out, in CI it fails.
func StartEngine(t testing.TB, cluster *Cluster) *Engine {
	t.Helper()
	e, err := newEngine(t.Context(), t.TempDir(), cluster)
	if err != nil {
		noEngine(t, err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// noEngine ends a test that got no engine.
func noEngine(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errUnavailable) {
		debian.LeaveOut(t, err)
	}
	t.Fatal(err)
}

// newEngine starts an engine on the data directory, which it creates if needed.
func newEngine(ctx context.Context, data string, cluster *Cluster) (*Engine, error) {
	in, err := install(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "chtest-")
	if err != nil {
		return nil, fmt.Errorf("chtest: %w", err)
	}
	e := &Engine{in: in, data: data, socket: filepath.Join(dir, "s")}
	if cluster != nil {
		e.config = filepath.Join(dir, "config.xml")
		if err := cluster.write(e.config); err != nil {
			return nil, err
		}
	}
	if err := e.Restart(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return e, nil
}

// write writes the cluster as a ClickHouse configuration file.
func (c *Cluster) write(path string) error {
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("chtest: cluster %s: %w", c.Name, err)
	}
	xml := fmt.Sprintf(`<clickhouse>
	<remote_servers><%[1]s><shard><internal_replication>true</internal_replication>
		<replica><host>%s</host><port>%s</port></replica></shard></%[1]s></remote_servers>
	<macros><shard>01</shard><replica>r1</replica></macros>
</clickhouse>
`, c.Name, host, port)
	if err := os.WriteFile(path, []byte(xml), 0o600); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	return nil
}

// Restart kills the engine if it runs and starts it on the same data directory.
func (e *Engine) Restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.killLocked()
	if err := os.MkdirAll(e.data, 0o750); err != nil {
		return fmt.Errorf("chtest: %w", err)
	}
	_ = os.Remove(e.socket)
	p, err := launch(e.in, e.data, e.socket, e.config)
	if err != nil {
		return err
	}
	e.process = p
	return nil
}

func launch(in installation, data, socket, config string) (*process, error) {
	p := &process{stderr: new(bytes.Buffer), exited: make(chan struct{})}
	args := []string{in.library, data, socket}
	if config != "" {
		args = append(args, config)
	}
	p.cmd = exec.Command(in.program, args...) //nolint:gosec,noctx // our own program; it outlives the call and is ended by its stdin
	p.cmd.Stderr = p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("chtest: %w", err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("chtest: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("chtest: start the engine: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	if err != nil || line != "ready\n" {
		p.kill()
		return nil, fmt.Errorf("chtest: the engine did not start: %s", strings.TrimSpace(p.stderr.String()))
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.stdin.Close()
	<-p.exited
}

// Kill ends the engine as kill -9 does, in the middle of whatever it is doing. Queries get ErrDown until Restart.
func (e *Engine) Kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.killLocked()
}

func (e *Engine) killLocked() {
	if e.process != nil {
		e.process.kill()
		e.process = nil
	}
}

// Close kills the engine and removes its socket. The data directory stays.
func (e *Engine) Close() error {
	e.Kill()
	return os.RemoveAll(filepath.Dir(e.socket))
}

// CPUTime is the CPU time of the engine's process since its start: unlike a clock, it
// does not run while others use them. 0 while the engine is down.
func (e *Engine) CPUTime() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.process.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var user, system time.Duration // fields 14 and 15 of proc(5), in ticks of 10 ms
	for i, field := range strings.Fields(rest) {
		n, _ := strconv.ParseInt(field, 10, 64)
		switch i {
		case 11:
			user = time.Duration(n)
		case 12:
			system = time.Duration(n)
		}
	}
	return (user + system) * 10 * time.Millisecond
}

// stage puts an INSERT's data into a file beside the socket.
func (e *Engine) stage(data []byte) (path string, err error) {
	f, err := os.CreateTemp(filepath.Dir(e.socket), "insert-")
	if err != nil {
		return "", fmt.Errorf("chtest: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("chtest: %w", err)
	}
	return f.Name(), nil
}

// Query runs one statement in a session of its own, beside every server and fault, and returns the
// result as tab-separated text without the last newline.
func (e *Engine) Query(ctx context.Context, query string) (string, error) {
	s, err := e.session()
	if err != nil {
		return "", err
	}
	defer s.close()
	out, err := s.run(ctx, "TabSeparated", []byte(query))
	return strings.TrimSuffix(string(out), "\n"), err
}

// MustQuery is Query for a test that cannot go on without the answer.
func (e *Engine) MustQuery(t testing.TB, query string) string {
	t.Helper()
	out, err := e.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// session is one session of the engine: SET, USE and temporary tables last until close. Not safe for concurrent use.
type session struct{ conn net.Conn }

func (e *Engine) session() (*session, error) {
	conn, err := net.DialTimeout("unix", e.socket, 5*time.Second) //nolint:noctx // a local socket answers at once or not at all
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	return &session{conn}, nil
}

func (s *session) close() { _ = s.conn.Close() }

// run executes query, which may carry an INSERT's data after its first line, and returns the result in
// the given ClickHouse format. When ctx ends first the session is closed; the engine finishes the query.
func (s *session) run(ctx context.Context, format string, query []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	head := make([]byte, 0, 16+len(format))
	head = binary.NativeEndian.AppendUint64(head, uint64(len(format)))
	head = binary.NativeEndian.AppendUint64(head, uint64(len(query)))
	head = append(head, format...)
	if _, err := (&net.Buffers{head, query}).WriteTo(s.conn); err != nil {
		return nil, s.gone(ctx, err)
	}
	answer := make([]byte, 16)
	if _, err := io.ReadFull(s.conn, answer); err != nil {
		return nil, s.gone(ctx, err)
	}
	status, body := binary.NativeEndian.Uint64(answer), make([]byte, binary.NativeEndian.Uint64(answer[8:]))
	if _, err := io.ReadFull(s.conn, body); err != nil {
		return nil, s.gone(ctx, err)
	}
	if status != 0 {
		return nil, &Exception{strings.TrimSpace(string(body))}
	}
	return body, nil
}

func (s *session) gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrDown, err)
}
