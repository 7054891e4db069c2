// Package demo has what `wattline demo` needs besides wattline: a llama-server, and requests.
package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"wattline/deploy/llama"
	"wattline/replay/table"
)

// StartServer starts a llama-server, which it finds or fetches, with the model file, "": a small one with random weights.
// It says on out what it started, and on progress what it fetches.
func StartServer(ctx context.Context, out, progress io.Writer, model string) (*llama.Server, error) {
	bin, err := llama.Find(ctx, progress)
	if err != nil {
		return nil, err
	}
	args := []string{"--no-webui", "-np", "4", "-c", "16384"}
	if model == "" {
		args = append(args, "--threads", "1") // with so small a model more threads only wait for each other
		if model, err = llama.TinyModel(ctx); err != nil {
			return nil, err
		}
		fmt.Fprintln(out, "The model is tiny and its weights are random, so its text and its speed mean nothing.")
		fmt.Fprintln(out, "Everything else is real. Use --model FILE for your own model.")
	}
	args = append(args, "-m", model, "--alias", strings.TrimSuffix(filepath.Base(model), ".gguf"))
	srv, err := llama.Start(ctx, bin, args...)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(table.Plain(out), "llama-server %s (%s) serves %s at %s\n", bin.Version, bin.Origin, filepath.Base(model), srv.URL())
	return srv, nil
}

// FreeAddress returns addr if it can be bound, else the same host with port 0.
func FreeAddress(addr string) string {
	ln, err := net.Listen("tcp", addr) //nolint:noctx // binding does not wait
	if err != nil {
		host, _, _ := strings.Cut(addr, ":")
		return host + ":0"
	}
	_ = ln.Close()
	return addr
}
