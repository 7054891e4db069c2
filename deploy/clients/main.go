// Command clients runs real API clients of npm against a real llama-server through wattline, two turns each, and prints
// what wattline's rows say of them:
//
//	go run ./deploy/clients [-wattline bin/wattline] [-only NAME,...] [-shapes FILE]
//
// Each client is installed once, into a folder of its own in $XDG_CACHE_HOME/wattline, and runs in an empty home folder.
// One that cannot be had or run here is named in one line. The exit status is 1 if a client that ran is not recognised as
// the table of clients says.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"wattline/deploy/llama"
)

func main() {
	var c config
	flag.StringVar(&c.wattline, "wattline", "bin/wattline", "the `program` under test")
	flag.StringVar(&c.only, "only", "", "run only these clients: `NAME,...`")
	flag.StringVar(&c.shapes, "shapes", "", "write the requests' shapes, without their texts, to this `file` (meter/testdata/clients.json has such)")
	flag.DurationVar(&c.timeout, "timeout", 3*time.Minute, "how long one turn of a client may take")
	flag.BoolVar(&c.verbose, "v", false, "print what the clients print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wrong, err := c.run(ctx, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(2)
	case wrong > 0:
		os.Exit(1)
	}
}

type config struct {
	wattline, only, shapes string
	timeout                time.Duration
	verbose                bool
}

// result is what came of one client.
type result struct {
	client  *client
	version string
	problem string // why it did not run, or not to its end
	seen    summary
}

// run runs the clients, prints the table and returns how many were not recognised.
func (c *config) run(ctx context.Context, out io.Writer) (wrong int, err error) {
	chosen, err := choose(c.only)
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "clients-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	server, err := startServer(ctx)
	if err != nil {
		return 0, err
	}
	defer server.Stop() //nolint:errcheck // it also ends with this process
	short, err := shorten(server.URL())
	if err != nil {
		return 0, err
	}
	defer short.Close()
	w, err := startWattline(ctx, c.wattline, short.URL, filepath.Join(dir, "wattline.db"))
	if err != nil {
		return 0, err
	}
	defer w.stop()
	if c.shapes != "" {
		if w.shapes, err = record(w.listen); err != nil {
			return 0, err
		}
	}
	var results []*result
	for _, cl := range chosen {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "%s ...\n", cl.name)
		results = append(results, c.one(ctx, cl, w, filepath.Join(dir, cl.name)))
	}
	if c.shapes != "" {
		if err := w.shapes.write(c.shapes); err != nil {
			return 0, err
		}
	}
	return print(out, results), nil
}

// startServer starts a llama-server with the small random model, large enough for an agent's prompts. It can only say hello.
func startServer(ctx context.Context) (*llama.Server, error) {
	bin, err := llama.Find(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	model, err := llama.TinyModel(ctx)
	if err != nil {
		return nil, err
	}
	return llama.Start(ctx, bin, "-m", model, "--alias", "tiny", "--no-webui", "--jinja", "--threads", "1", "-np", "2", "-c", "262144", "--predict", "48", "--grammar", `root ::= "hello"`)
}

// choose finds the clients of a list of names.
func choose(only string) (out []*client, err error) {
	all := table()
	if only == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(c *client) bool { return c.name == name })
		if i < 0 {
			var names []string
			for _, c := range all {
				names = append(names, c.name)
			}
			return nil, fmt.Errorf("-only: there is no client %q, only %s", name, strings.Join(names, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// one installs a client, lets it take its turns and reads the rows.
func (c *config) one(ctx context.Context, cl *client, w *wattline, home string) *result {
	r := &result{client: cl}
	dir, version, err := cl.install(ctx)
	if r.version = version; err != nil {
		r.problem = "cannot be had: " + firstLine(err.Error())
		return r
	}
	if w.shapes != nil {
		w.shapes.begin(cl.name)
	}
	from := time.Now()
	for i := range cl.turns {
		if err := c.turn(ctx, cl, i, dir, home, w.url()); err != nil {
			r.problem = fmt.Sprintf("turn %d: %s", i+1, firstLine(err.Error()))
			break
		}
	}
	rows, err := w.rows(ctx, from)
	if err != nil && r.problem == "" {
		r.problem = err.Error()
	}
	r.seen = summarise(rows)
	return r
}

// turn runs one command of a client in its home folder.
func (c *config) turn(ctx context.Context, cl *client, turn int, dir, home, url string) error {
	work := filepath.Join(home, "work")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	fill := strings.NewReplacer("{url}", url, "{home}", home, "{dir}", dir, "{work}", work, "{platform}", platform())
	for name, text := range cl.files {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(fill.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	var argv []string
	for _, word := range cl.turns[turn] {
		argv = append(argv, fill.Replace(word))
	}
	if argv[0] != "node" && !filepath.IsAbs(argv[0]) {
		argv[0] = filepath.Join(dir, "node_modules", ".bin", argv[0])
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("did not end within %v", c.timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the table's
	cmd.Dir = work
	cmd.Env = append(environment(home), cl.env...)
	for i, e := range cmd.Env {
		cmd.Env[i] = fill.Replace(e)
	}
	ownGroup(cmd)
	defer endLeftovers(home)
	text, err := cmd.CombinedOutput()
	if c.verbose {
		fmt.Fprintf(os.Stderr, "%s\n%s\n", strings.Join(argv, " "), text)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%w: %s", err, lastLine(string(text)))
	}
	return nil
}

// platform is the system as npm's packages name it.
func platform() string {
	return runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
}

// environment is that of a user who has nothing but the client.
func environment(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home + "/.config", "XDG_CACHE_HOME=" + home + "/.cache",
		"XDG_DATA_HOME=" + home + "/.local/share", "XDG_STATE_HOME=" + home + "/.local/state", "TMPDIR=" + os.TempDir(), "TERM=xterm", "LANG=C.UTF-8", "NO_COLOR=1", "CI=1",
		"DO_NOT_TRACK=1", "NO_UPDATE_NOTIFIER=1",
	}
}

// print prints the table and what is wrong, and returns how much that is.
func print(out io.Writer, results []*result) (wrong int) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "client\tversion\tagent\tsession\tuser\tgenerations\tother calls\toutcomes\t")
	for _, r := range results {
		s := r.seen
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", r.client.name, or(r.version), or(strings.Join(s.agents, ", ")), s.sessions(), or(strings.Join(s.users, ", ")),
			s.generations, s.others, or(s.outcomes), r.problem)
	}
	_ = t.Flush()
	for _, r := range results {
		s := r.seen
		switch {
		case s.generations == 0:
			continue // it did not run
		case !slices.Equal(s.agents, []string{r.client.agent}):
			fmt.Fprintf(out, "%s: its agent is %q, want %q\n", r.client.name, s.agents, r.client.agent)
		case len(s.named)+len(s.inferred) != max(1, r.client.sessions):
			fmt.Fprintf(out, "%s: its turns are %d sessions, want %d\n", r.client.name, len(s.named)+len(s.inferred), max(1, r.client.sessions))
		case r.client.names != (len(s.inferred) == 0):
			fmt.Fprintf(out, "%s: it names its sessions: %v, want %v\n", r.client.name, !r.client.names, r.client.names)
		default:
			continue
		}
		wrong++
	}
	return wrong
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s[:min(len(s), 200)]
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return firstLine(lines[len(lines)-1])
}
