package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/replay"
	"wattline/replay/session"
	"wattline/replay/table"
)

// checkCmd is the quick verification of the guide: one line for each check.
type checkCmd struct {
	Endpoint string `help:"Address of wattline, or of a llama-server." default:"${endpoint}" placeholder:"URL"`
	replayAdminFlags
	APIKeyFile string `help:"File with the API key of the server." type:"existingfile" placeholder:"FILE"`
}

// First word of a check's line.
const (
	checkOK      = "ok  "
	checkFail    = "FAIL"
	checkSkipped = "--  " // not known here, which is not a failure
)

// skipped is the error of a check that cannot be made here.
type skipped string

func (s skipped) Error() string { return string(s) }

// checks is the state of a run of the command.
type checks struct {
	app     *app
	session *session.Session
	run     *replay.Run
	failed  int
}

// Run makes the checks. Those that depend on a check that failed are left out.
func (c *checkCmd) Run(a *app) error {
	k := &checks{app: a}
	defer func() {
		if k.session != nil {
			k.session.Close()
		}
	}()
	if k.line("server", func() (string, error) { return k.server(c) }) {
		k.line("models endpoint", k.models)
		if k.line("basic completion", k.completion) {
			k.line("small benchmark", k.benchmark)
		}
		k.line("measured in line", k.inLine)
		k.line("GPU metrics", k.gpu)
		k.line("tokens per watt", k.tokensPerWatt)
	}
	if k.failed > 0 {
		return fmt.Errorf("checks that failed: %d", k.failed)
	}
	return nil
}

// line makes one check and prints its line.
func (k *checks) line(name string, f func() (string, error)) bool {
	detail, err := f()
	word := checkOK
	if err != nil {
		detail = err.Error()
		if _, ok := errors.AsType[skipped](err); ok {
			word = checkSkipped
		} else {
			word = checkFail
			k.failed++
		}
	}
	fmt.Fprintf(k.app.stdout, "%s  %-18s%s\n", word, name, table.PrintableLines(detail))
	return word == checkOK
}

// server reads the server's properties and opens the session for the other checks.
func (k *checks) server(c *checkCmd) (string, error) {
	run := &replayRunCmd{
		Endpoint: c.Endpoint, replayAdminFlags: c.replayAdminFlags, APIKeyFile: c.APIKeyFile, Quiet: true, LoadTimeout: defaultLoadTimeout,
		Task: []string{"coding"}, PromptSizes: []string{"200"}, OutputTokens: []string{"64"}, Requests: 3,
	}
	quiet := *k.app
	quiet.stderr = io.Discard
	s, err := run.open(&quiet)
	if err != nil {
		return "", err
	}
	k.session = s
	if err := s.FindAdmin(k.app.ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s serves %s: %d slots of %d tokens, build %s", s.Server.Endpoint, s.Server.Model, s.Server.Slots, s.Server.ContextTokens, s.Server.Build), nil
}

func (k *checks) models() (string, error) {
	ids, err := k.session.Client.Models(k.app.ctx)
	if err != nil {
		return "", err
	}
	if len(ids) == 0 {
		return "", errors.New("GET /v1/models lists none")
	}
	return "GET /v1/models lists " + strings.Join(ids, ", "), nil
}

// completion requests one streamed reply to a short prompt.
func (k *checks) completion() (string, error) {
	const tokens = 16
	ex := k.session.Client.Send(k.app.ctx, &replay.Request{
		Cell: replay.Cell{OutputTokens: tokens}, Prompt: "Say hello.", Cache: replay.Cold, Forced: true,
	})
	switch {
	case !ex.OK():
		return "", errors.New(ex.Error)
	case !ex.TTFTUs.Valid:
		return "", errors.New("the reply has no text")
	case ex.OutputTokens != meter.Some(tokens):
		return "", fmt.Errorf("%d tokens were requested, the server counted %s", tokens, term.Count(ex.OutputTokens))
	}
	return fmt.Sprintf("%d tokens for a prompt of %s, the first after %s", tokens, term.Count(ex.PromptTokens()), term.InUnit(ex.TTFTUs, 1e3, "ms")), nil
}

// benchmark sends three requests with 200 tokens of prompt and 64 of reply.
func (k *checks) benchmark() (string, error) {
	run, err := k.session.Run(k.app.ctx)
	if err != nil {
		return "", err
	}
	if run.Interrupted {
		return "", errors.New("interrupted")
	}
	k.run = run
	r := run.Results()
	for _, c := range r.Checks {
		if c.State == replay.Failed {
			return "", fmt.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	detail := fmt.Sprintf("%d x %s: %s tokens/s, first token after %s ms", r.PromptsTested, k.session.Plan.Cells[0],
		number(r.Throughput.MeanTokensPerSecond), number(r.Latency.TimeToFirstTokenMs))
	if decode := r.Throughput.DecodeTokensPerSecond; decode.Valid {
		detail += fmt.Sprintf(", then %s tokens/s", number(decode))
	}
	return detail, nil
}

// inLine checks that wattline is between client and server and that its rows can be read.
func (k *checks) inLine() (string, error) {
	switch {
	case k.session.Admin == nil:
		return "", skipped("no wattline in between, or its admin API cannot be reached (--admin)")
	case k.run == nil:
		return "", skipped("no request was measured")
	}
	in := k.run.Results().InLine
	if in.Joined == 0 || in.Missing > 0 {
		return "", fmt.Errorf("%d of %d requests have a row at %s", in.Joined, in.Joined+in.Missing, k.session.Admin.Address())
	}
	return fmt.Sprintf("%d requests have their rows; wattline added %s ms before the first token", in.Joined, number(in.Overhead.Median)), nil
}

// gpu reads the latest power sample of each device.
func (k *checks) gpu() (string, error) {
	if k.session.Admin == nil {
		return "", skipped("only wattline reads the GPU, and there is none in between")
	}
	const recent = 15 * time.Second
	now := time.Now()
	p, err := k.session.Admin.Energy(k.app.ctx, now.Add(-recent), now)
	if err != nil {
		return "", err
	}
	if len(p.Samples) == 0 {
		return "", skipped("wattline has no power source here (\"wattline gpu\" prints the reason)")
	}
	newest := map[string]replay.Sample{}
	for _, s := range p.Samples {
		newest[s.Device] = s
	}
	var lines []string
	for device, s := range newest {
		if s.Source == "sim" {
			device += " (SIMULATED)"
		}
		lines = append(lines, fmt.Sprintf("%s: %s, %s, %s of memory in use", device, term.InUnit(s.MeanMw, 1e3, "W"), term.InUnit(s.TempC, 1, "°C"), term.InUnit(s.VRAMBytes, 1<<30, "GiB")))
	}
	return strings.Join(lines, "; "), nil
}

func (k *checks) tokensPerWatt() (string, error) {
	if k.run == nil {
		return "", skipped("no request was measured")
	}
	e := k.run.Results().Energy
	if !e.MeanTokensPerWatt.Valid {
		return "", skipped("no energy was measured")
	}
	return fmt.Sprintf("%s tokens/W (output tokens / mean power), %s tokens/J", number(e.MeanTokensPerWatt), number(e.TokensPerJoule)), nil
}

// number formats a number of a result, or - if it was not obtained.
func number(n replay.Num) string {
	if !n.Valid {
		return table.Absent
	}
	return table.Number(n.V)
}
