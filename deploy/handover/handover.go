// Package handover keeps listeners open across an upgrade, so that no connection is refused: a process gets them
// from systemd (socket activation) or from its predecessor, and passes them on to its successor.
//
//	ls, err := handover.Inherit()
//	ln, err := ls.Listen("default", "tcp", "127.0.0.1:8080") // the inherited one, else a new one
//	err = ls.Ready()                                          // serving: the predecessor stops accepting
//	...
//	pid, err := ls.Successor(ctx)                             // start the program anew with the same listeners
//
// A successor is the same program with the same arguments; the file at its path may be newer. It finds its
// listeners by name in WATTLINE_HANDOVER and reports through a pipe that it serves. Until then the predecessor
// continues to serve. A successor that fails changes nothing.
package handover

import (
	"context"
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
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// env tells a successor which descriptors it was given: "ready=3,default=4,admin=5".
const env = "WATTLINE_HANDOVER"

// firstFD is the first descriptor that exec.Cmd passes through ExtraFiles.
const firstFD = 3

// readyName is the pipe's name in env.
const readyName = "ready"

// Listeners are a process's listeners by name.
type Listeners struct {
	program string // absolute path of the successor's program

	mu        sync.Mutex // guards what follows
	inherited map[string]net.Listener
	byOrder   []net.Listener // systemd's without a name of their own
	open      map[string]net.Listener
	ready     *os.File // the pipe to the predecessor; nil: none, or Ready was called
	following bool     // a successor is being started
}

// Inherit takes over the listeners of systemd or of a predecessor; without either it is empty. Call it once,
// before other descriptors are opened.
func Inherit() (*Listeners, error) {
	l := &Listeners{inherited: map[string]net.Listener{}, open: map[string]net.Listener{}}
	program, err := exec.LookPath(os.Args[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		if program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("handover: this program's file: %w", err)
		}
	}
	l.program = program
	given := os.Getenv(env)
	if err := os.Unsetenv(env); err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	if given != "" {
		return l, l.fromPredecessor(given)
	}
	return l, l.fromSystemd()
}

func (l *Listeners) fromPredecessor(given string) error {
	for part := range strings.SplitSeq(given, ",") {
		name, num, _ := strings.Cut(part, "=")
		fd, err := strconv.Atoi(num)
		if err != nil || fd < firstFD {
			return fmt.Errorf("handover: %s=%q was not written by a predecessor", env, given)
		}
		f := os.NewFile(uintptr(fd), name)
		if name == readyName {
			l.ready = f
			continue
		}
		if l.inherited[name], err = listener(f); err != nil {
			return fmt.Errorf("handover: %s: %w", name, err)
		}
	}
	return nil
}

func (l *Listeners) fromSystemd() error {
	for _, f := range activation.Files(true) {
		named := !strings.HasPrefix(f.Name(), "LISTEN_FD_") && f.Name() != "unknown" && !strings.HasSuffix(f.Name(), ".socket")
		name := f.Name()
		ln, err := listener(f)
		if err != nil {
			return fmt.Errorf("handover: %s from systemd: %w", name, err)
		}
		if named {
			l.inherited[name] = ln
		} else {
			l.byOrder = append(l.byOrder, ln)
		}
	}
	return nil
}

// listener makes a listener of a descriptor and closes the descriptor it was made from.
func listener(f *os.File) (net.Listener, error) {
	ln, err := net.FileListener(f)
	return ln, errors.Join(err, f.Close())
}

// Predecessor reports whether another process serves until Ready.
func (l *Listeners) Predecessor() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready != nil
}

// Listen returns the listener of this name: an inherited one (its address then wins over addr), else the
// next that systemd gave without a name, else a new one at addr.
func (l *Listeners) Listen(name, network, addr string) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.inherited[name]
	switch {
	case ln != nil:
		delete(l.inherited, name)
	case len(l.byOrder) > 0:
		ln, l.byOrder = l.byOrder[0], l.byOrder[1:]
	default:
		var err error
		if ln, err = listen(network, addr); err != nil {
			return nil, err
		}
	}
	l.open[name] = ln
	return ln, nil
}

// listen binds a new listener. A socket file that a crash left, on which nothing answers, is replaced.
func listen(network, addr string) (net.Listener, error) {
	ln, err := net.Listen(network, addr) //nolint:noctx // binding does not wait
	if err == nil || network != "unix" {
		return ln, err
	}
	if c, dialErr := net.Dial(network, addr); dialErr == nil { //nolint:noctx,gosec // a socket file answers at once; the user names it
		return nil, errors.Join(err, c.Close())
	}
	if st, statErr := os.Lstat(addr); statErr != nil || st.Mode()&os.ModeSocket == 0 || os.Remove(addr) != nil { //nolint:gosec // a dead socket that the user names
		return nil, err
	}
	return net.Listen(network, addr) //nolint:noctx // binding does not wait
}

// Ready tells the predecessor, which then stops accepting, and systemd that this process serves. It closes inherited
// listeners that were not asked for.
func (l *Listeners) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for name, ln := range l.inherited {
		errs = append(errs, ln.Close())
		delete(l.inherited, name)
	}
	state := daemon.SdNotifyReady
	if l.ready != nil {
		_, err := l.ready.Write([]byte{1})
		errs = append(errs, err, l.ready.Close())
		l.ready = nil
		state += fmt.Sprintf("\nMAINPID=%d", os.Getpid())
	}
	_, err := daemon.SdNotify(false, state)
	return errors.Join(append(errs, err)...)
}

// Stopping tells systemd that the service stops. Do not call it after a handover: the service continues.
func (l *Listeners) Stopping() error {
	_, err := daemon.SdNotify(false, daemon.SdNotifyStopping)
	return err
}

// Successor starts the program anew with this process's listeners, waits until it serves and returns its
// process id. After that this process must stop accepting and let its connections end. If the successor ends
// before it serves, or ctx does, the error says why and nothing has changed.
func (l *Listeners) Successor(ctx context.Context) (pid int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.following || l.ready != nil {
		return 0, errors.New("handover: a successor has already been started")
	}
	l.following = true
	defer func() { l.following = err == nil }()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("handover: %w", err)
	}
	defer r.Close() //nolint:errcheck // read from only
	files, given := []*os.File{w}, []string{fmt.Sprintf("%s=%d", readyName, firstFD)}
	defer func() {
		for _, f := range files {
			_ = f.Close() // ours; the successor has its own
		}
	}()
	for name, ln := range l.open {
		f, err := file(ln)
		if err != nil {
			return 0, fmt.Errorf("handover: %s: %w", name, err)
		}
		given = append(given, fmt.Sprintf("%s=%d", name, firstFD+len(files)))
		files = append(files, f)
	}
	cmd := exec.Command(l.program, os.Args[1:]...) //nolint:gosec,noctx // itself; it must outlive us
	cmd.Env = append(os.Environ(), env+"="+strings.Join(given, ","))
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, files
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("handover: cannot start %s: %w", l.program, err)
	}
	if err := l.await(ctx, cmd, r, w); err != nil {
		return 0, err
	}
	l.keepSocketFiles()
	return cmd.Process.Pid, nil
}

// await waits until the successor reports that it serves.
func (l *Listeners) await(ctx context.Context, cmd *exec.Cmd, r, w *os.File) error {
	_ = w.Close() // so that the pipe ends with the successor; closing it again later does no harm
	said := make(chan error, 1)
	go func() { // ends with the pipe
		_, err := io.ReadFull(r, make([]byte, 1))
		said <- err
	}()
	select {
	case err := <-said:
		if err == nil {
			go cmd.Wait() //nolint:errcheck // it outlives us; reaped if not
			return nil
		}
		return fmt.Errorf("handover: the successor ended before it served: %w", cmd.Wait())
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("handover: the successor does not serve: %w", ctx.Err()), cmd.Process.Kill(), cmd.Wait())
	}
}

// keepSocketFiles leaves the files of Unix listeners to the successor.
func (l *Listeners) keepSocketFiles() {
	for _, ln := range l.open {
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
	}
}

// file is a copy of a listener's descriptor for a child. The File method of the listener cannot be used: os/exec calls
// Fd on the file, which makes it blocking, and the flag is shared with the listener. An accept that begins before the
// successor clears the flag would then block this process until the next client connects.
func file(ln net.Listener) (*os.File, error) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be passed on", ln)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(own uintptr) { fd, dupErr = duplicate(own) }); err != nil || dupErr != nil {
		return nil, errors.Join(err, dupErr)
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}
