package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay"
	"wattline/replay/table"
)

// Check is one line of the guide's quick verification.
type Check struct {
	Name, Detail string
	State        CheckState
}

// CheckState is how a check ended.
type CheckState string

// The states of a check.
const (
	CheckOK      CheckState = "ok"
	CheckFailed  CheckState = "FAIL"
	CheckUnknown CheckState = "--" // not known here, which is not a failure
)

// unknown is the error of a check that cannot be made here.
type unknown string

func (s unknown) Error() string { return string(s) }

// verification is the state of a run of Verify.
type verification struct {
	ctx     context.Context
	report  func(Check)
	session *Session
	run     *replay.Run
	failed  int
}

// Verify makes the checks and reports each as it ends; it returns how many failed. open connects to the server for a run of
// three short requests. Checks that depend on one that failed are left out.
func Verify(ctx context.Context, open func() (*Session, error), report func(Check)) (failed int) {
	k := &verification{ctx: ctx, report: report}
	defer func() {
		if k.session != nil {
			k.session.Close()
		}
	}()
	if k.check("server", func() (string, error) { return k.server(open) }) {
		k.check("models endpoint", k.models)
		if k.check("basic completion", k.completion) {
			k.check("small benchmark", k.benchmark)
		}
		k.check("measured in line", k.inLine)
		k.check("GPU metrics", k.gpu)
		k.check("tokens per watt", k.tokensPerWatt)
	}
	return k.failed
}

// check makes one check and reports it.
func (k *verification) check(name string, f func() (string, error)) bool {
	detail, err := f()
	c := Check{Name: name, Detail: detail, State: CheckOK}
	if err != nil {
		c.Detail = err.Error()
		if _, ok := errors.AsType[unknown](err); ok {
			c.State = CheckUnknown
		} else {
			c.State = CheckFailed
			k.failed++
		}
	}
	k.report(c)
	return c.State == CheckOK
}

// server reads the server's properties and opens the session for the other checks.
func (k *verification) server(open func() (*Session, error)) (string, error) {
	s, err := open()
	if err != nil {
		return "", err
	}
	k.session = s
	if err := s.FindAdmin(k.ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s serves %s: %d slots of %d tokens, build %s", s.Server.Endpoint, s.Server.Model, s.Server.Slots, s.Server.ContextTokens, s.Server.Build), nil
}

func (k *verification) models() (string, error) {
	ids, err := k.session.Client.Models(k.ctx)
	if err != nil {
		return "", err
	}
	if len(ids) == 0 {
		return "", errors.New("GET /v1/models lists none")
	}
	return "GET /v1/models lists " + strings.Join(ids, ", "), nil
}

// completion requests one streamed reply to a short prompt.
func (k *verification) completion() (string, error) {
	const tokens = 16
	ex := k.session.Client.Send(k.ctx, &replay.Request{
		Cell: replay.Cell{OutputTokens: tokens}, Prompt: "Say hello.", Cache: replay.Cold, Forced: true,
	})
	switch {
	case !ex.OK():
		return "", errors.New(ex.Error)
	case !ex.TTFTUs.Valid:
		return "", errors.New("the reply has no text")
	case ex.OutputTokens != meter.Some(tokens):
		return "", fmt.Errorf("%d tokens were requested, the server counted %s", tokens, table.Count(ex.OutputTokens))
	}
	return fmt.Sprintf("%d tokens for a prompt of %s, the first after %s", tokens, table.Count(ex.PromptTokens()), table.InUnit(ex.TTFTUs, 1e3, "ms")), nil
}

// benchmark sends three requests with 200 tokens of prompt and 64 of reply.
func (k *verification) benchmark() (string, error) {
	run, err := k.session.Run(k.ctx)
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
		table.Num(r.Throughput.MeanTokensPerSecond), table.Num(r.Latency.TimeToFirstTokenMs))
	if decode := r.Throughput.DecodeTokensPerSecond; decode.Valid {
		detail += fmt.Sprintf(", then %s tokens/s", table.Num(decode))
	}
	return detail, nil
}

// inLine checks that wattline is between client and server and that its rows can be read.
func (k *verification) inLine() (string, error) {
	switch {
	case k.session.Admin == nil:
		return "", unknown("no wattline in between, or its admin API cannot be reached (--admin)")
	case k.run == nil:
		return "", unknown("no request was measured")
	}
	in := k.run.Results().InLine
	if in.Joined == 0 || in.Missing > 0 {
		return "", fmt.Errorf("%d of %d requests have a row at %s", in.Joined, in.Joined+in.Missing, k.session.Admin.Address())
	}
	return fmt.Sprintf("%d requests have their rows; wattline added %s ms before the first token", in.Joined, table.Num(in.Overhead.Median)), nil
}

// gpu reads the latest power sample of each device.
func (k *verification) gpu() (string, error) {
	if k.session.Admin == nil {
		return "", unknown("only wattline reads the GPU, and there is none in between")
	}
	const recent = 15 * time.Second
	now := time.Now()
	p, err := k.session.Admin.Energy(k.ctx, now.Add(-recent), now)
	if err != nil {
		return "", err
	}
	if len(p.Samples) == 0 {
		return "", unknown("wattline has no power source here (\"wattline gpu\" prints the reason)")
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
		lines = append(lines, fmt.Sprintf("%s: %s, %s, %s of memory in use", device, table.InUnit(s.MeanMw, 1e3, "W"), table.InUnit(s.TempC, 1, "°C"), table.InUnit(s.VRAMBytes, 1<<30, "GiB")))
	}
	return strings.Join(lines, "; "), nil
}

func (k *verification) tokensPerWatt() (string, error) {
	if k.run == nil {
		return "", unknown("no request was measured")
	}
	e := k.run.Results().Energy
	if !e.MeanTokensPerWatt.Valid {
		return "", unknown("no energy was measured")
	}
	return fmt.Sprintf("%s tokens/W (output tokens / mean power), %s tokens/J", table.Num(e.MeanTokensPerWatt), table.Num(e.TokensPerJoule)), nil
}
