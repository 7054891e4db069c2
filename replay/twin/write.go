package twin

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"wattline/meter"
	"wattline/replay/archive"
	"wattline/replay/client"
	"wattline/replay/trace"
	"wattline/sink"
)

// Formats are those that WriteFile writes.
func Formats() []string { return []string{"wattline", "mooncake"} }

// Store is where rows, fingerprints and configurations are read from.
type Store interface {
	EachPrompted(ctx context.Context, since, until time.Time, f func(*meter.Record, []byte) error) error
	Config(ctx context.Context, id string) (*sink.ServerConfig, error)
}

// Read makes the trace of the rows of a span.
func (x *Exporter) Read(ctx context.Context, s Store, since, until time.Time) (*trace.Trace, trace.Manifest, error) {
	err := s.EachPrompted(ctx, since, until, func(rec *meter.Record, fingerprint []byte) error {
		x.Add(rec, fingerprint)
		return nil
	})
	if err != nil {
		return nil, trace.Manifest{}, err
	}
	id, _ := x.config()
	c, err := s.Config(ctx, id)
	if err != nil {
		return nil, trace.Manifest{}, err
	}
	var facts map[string]string
	if c != nil {
		var settings map[string]string
		if len(c.ServerFlags) > 0 {
			settings = client.Settings(c.ServerFlags)
		}
		facts = Facts(c.ServerBuild, c.Quantisation, c.ContextTokens, c.Slots, settings)
	}
	return x.Trace(facts)
}

// WriteFile writes the trace of a span to a file, and says in one line what is in it.
func (x *Exporter) WriteFile(ctx context.Context, s Store, since, until time.Time, path, format string) (summary string, err error) {
	t, m, err := x.Read(ctx, s, since, until)
	if err != nil {
		return "", err
	}
	return Summary(t, m), WriteFile(path, format, m, t)
}

// WriteFile writes a trace to a file, gzipped where its name ends in .gz.
func WriteFile(path, format string, m trace.Manifest, t *trace.Trace) error {
	var b bytes.Buffer
	out := io.Writer(&b)
	var z *gzip.Writer
	if strings.HasSuffix(path, ".gz") {
		z = gzip.NewWriter(&b)
		out = z
	}
	write := func() error { return trace.Write(out, m, t) }
	if format == "mooncake" {
		write = func() error { return writeMooncake(out, t) }
	}
	err := write()
	if z != nil {
		err = errors.Join(err, z.Close())
	}
	if err != nil {
		return err
	}
	return archive.ReplaceFile(path, b.Bytes())
}

// mooncakeBlock is the number of tokens of a block in Mooncake's traces.
const mooncakeBlock = 512

// writeMooncake writes the lengths and blocks alone: the format has neither sessions nor measurements.
func writeMooncake(w io.Writer, t *trace.Trace) error {
	f := &fixed{size: mooncakeBlock, ids: map[place]int{}}
	enc := json.NewEncoder(w)
	for i := range t.Records {
		r := &t.Records[i]
		err := enc.Encode(struct {
			Timestamp int64 `json:"timestamp"`
			Input     int   `json:"input_length"`
			Output    int   `json:"output_length"`
			Blocks    []int `json:"hash_ids"`
		}{r.Offset.Milliseconds(), r.Input, r.Output, f.blocks(r)})
		if err != nil {
			return fmt.Errorf("trace: %w", err)
		}
	}
	return nil
}

// Summary says in one line what a trace has.
func Summary(t *trace.Trace, m trace.Manifest) string {
	blocks := 0
	for i := range t.Records {
		if t.Records[i].Blocks != nil {
			blocks++
		}
	}
	out := fmt.Sprintf("%d requests of %d sessions in %v, %d with blocks", len(t.Records), t.Sessions(), t.Span().Round(time.Second), blocks)
	if len(m.LeftOut) > 0 {
		out += "; left out: " + counts(m.LeftOut)
	}
	return out
}

var (
	plainBuild = regexp.MustCompile(`^b?[0-9]{1,8}(-[0-9a-f]{4,12})?$`)
	// As llama.cpp names the types of files (Q4_K - Medium, IQ2_XXS - 2.0625 bpw), and as files are called (Q4_K_M).
	plainQuant = regexp.MustCompile(`^(all F32|B?F16|F32|MXFP4|MXFP4 MoE|NVFP4|(Q|IQ|TQ)[1-8]_([01K]|K_S|K_M|K_L|K_XL|XXS|XS|S|M|NL)( mix)?)` +
		`( - (Small|Medium|Large|[0-9]\.[0-9]{1,4} bpw( ternary)?))?( \(guessed\))?$`)
	plainValue = regexp.MustCompile(`^(-?[0-9]{1,9}|on|off|auto|b?f(16|32)|i?q[0-9]_([0-9k]|nl))?$`)
)

// flags is the fact that a server's flags are known: one that is not among the facts was not set.
const flags = "flags"

// Facts are what a trace says of the server: what matters to speed, and is no name. Settings are the flags of its command line
// that may be shown, by name; nil: they are not known.
func Facts(build, quantisation string, context, slots meter.Int, settings map[string]string) map[string]string {
	out := map[string]string{}
	put := func(name, value string, plain *regexp.Regexp) {
		if value != "" && plain.MatchString(value) {
			out[name] = value
		}
	}
	put("build", build, plainBuild)
	put("quantisation", quantisation, plainQuant)
	for name, n := range map[string]meter.Int{"context_tokens": context, "slots": slots} {
		if n.Valid {
			out[name] = strconv.FormatInt(n.V, 10)
		}
	}
	if settings != nil {
		out[flags] = "known"
	}
	for name, value := range settings {
		if plainValue.MatchString(value) {
			out[name] = value
		}
	}
	return out
}
