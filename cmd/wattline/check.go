package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"wattline/cmd/wattline/internal/term"
	"wattline/meter"
	"wattline/replay"
	"wattline/replay/load"
	"wattline/replay/prompt"
	"wattline/replay/session"
	"wattline/replay/table"
)

// checkCmd is the guide's quick verification of an endpoint: one line a check.
type checkCmd struct {
	Endpoint   string `help:"Address of wattline, or of a llama-server." default:"${endpoint}" placeholder:"URL"`
	Admin      string `help:"Address of wattline's admin API. Default: as the endpoint's replies say." placeholder:"URL"`
	APIKeyFile string `help:"File with the API key of the server." type:"existingfile" placeholder:"FILE"`
}

// The words that begin a check's line.
const (
	checkOK   = "ok  "
	checkFail = "FAIL"
	checkNone = "--  " // cannot be known here, which is no failure
)

// errNone says that something cannot be known here.
type errNone struct{ why string }

func (e *errNone) Error() string { return e.why }

// checks is what a run of the command knows so far.
type checks struct {
	app     *app
	session *session.Session
	run     *replay.Run
	failed  int
}

// Run prints a line a check; what depends on a check that failed is not tried.
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

// line runs one check and prints what was seen.
func (k *checks) line(name string, f func() (string, error)) bool {
	seen, err := f()
	word := checkOK
	var none *errNone
	switch {
	case errors.As(err, &none):
		word, seen = checkNone, none.why
	case err != nil:
		word, seen = checkFail, err.Error()
		k.failed++
	}
	fmt.Fprintf(k.app.stdout, "%s  %-18s%s\n", word, name, seen)
	return word == checkOK
}

// server asks the server what it is, and sets everything up for the other checks.
func (k *checks) server(c *checkCmd) (string, error) {
	run := &replayRunCmd{
		Endpoint: c.Endpoint, Admin: c.Admin, APIKeyFile: c.APIKeyFile, Quiet: true, LoadTimeout: 5 * time.Minute,
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

// completion is one streamed reply to a short question.
func (k *checks) completion() (string, error) {
	const tokens = 16
	ex := k.session.Client.Send(k.app.ctx, &replay.Request{
		Cell: replay.Cell{OutputTokens: tokens}, Prompt: "Say hello.", Cache: replay.Cold, Forced: true,
	})
	switch {
	case !ex.OK():
		return "", errors.New(ex.Error)
	case !ex.TTFTUs.Valid:
		return "", errors.New("a reply without any text came")
	case ex.OutputTokens != meter.Some(tokens):
		return "", fmt.Errorf("%d tokens were asked for, the server counted %s", tokens, term.Count(ex.OutputTokens))
	}
	return fmt.Sprintf("%d tokens to a prompt of %s, the first after %s", tokens, term.Count(ex.PromptTokens()), term.InUnit(ex.TTFTUs, 1e3, "ms")), nil
}

// benchmark is three requests of 200 tokens with 64 tokens of reply.
func (k *checks) benchmark() (string, error) {
	s := k.session
	maker := &prompt.Maker{Counter: s.Client}
	run, err := load.Run(k.app.ctx, load.Config{
		Plan: s.Plan, Sender: s.Client, Prompts: maker, Slots: s.Server.Slots, Offset: func(n int) { maker.Offset += n },
	})
	if err != nil {
		return "", err
	}
	run.Server = s.Server
	if run.After, err = s.Client.Server(k.app.ctx, nil); err != nil {
		return "", err
	}
	if s.Admin != nil {
		s.Join(context.WithoutCancel(k.app.ctx), run)
	}
	k.run = run
	r := run.Results()
	for _, c := range r.Checks {
		if c.State == replay.Failed {
			return "", fmt.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	seen := fmt.Sprintf("%d x %s: %s tokens/s, first token after %s ms", r.PromptsTested, s.Plan.Cells[0],
		number(r.Throughput.MeanTokensPerSecond), number(r.Latency.TimeToFirstTokenMs))
	if decode := r.Throughput.DecodeTokensPerSecond; decode.Valid {
		seen += fmt.Sprintf(", then %s tokens/s", number(decode))
	}
	return seen, nil
}

// inLine is whether wattline stands in between and its rows can be read.
func (k *checks) inLine() (string, error) {
	switch {
	case k.session.Admin == nil:
		return "", &errNone{"no wattline in between, or none whose admin listener is reachable (--admin)"}
	case k.run == nil:
		return "", &errNone{"nothing was sent"}
	}
	in := k.run.Results().InLine
	if in.Joined == 0 || in.Missing > 0 {
		return "", fmt.Errorf("%d of %d requests have a row at %s", in.Joined, in.Joined+in.Missing, k.session.Admin.Address())
	}
	return fmt.Sprintf("%d requests have their rows; added by wattline before the first token: %s ms", in.Joined, number(in.Overhead.Median)), nil
}

// gpu is what the device shows just now.
func (k *checks) gpu() (string, error) {
	if k.session.Admin == nil {
		return "", &errNone{"only wattline reads the GPU, and it is not in between"}
	}
	const recent = 15 * time.Second
	now := time.Now()
	p, err := k.session.Admin.Energy(k.app.ctx, now.Add(-recent), now)
	if err != nil {
		return "", err
	}
	if len(p.Samples) == 0 {
		return "", &errNone{"wattline has no power source here (wattline gpu says why)"}
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
		return "", &errNone{"nothing was measured"}
	}
	e := k.run.Results().Energy
	if !e.MeanTokensPerWatt.Valid {
		return "", &errNone{"no energy was measured"}
	}
	return fmt.Sprintf("%s tokens/W (output tokens / mean power), %s tokens/J", number(e.MeanTokensPerWatt), number(e.TokensPerJoule)), nil
}

// number prints a number of a result, or - where it was not obtained.
func number(n replay.Num) string {
	if !n.Valid {
		return table.Absent
	}
	return table.Number(n.V)
}
