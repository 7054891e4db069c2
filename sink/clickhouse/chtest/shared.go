package chtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
)

// Shared is the one engine of a test binary (it takes 210 MB), started when a test first asks for it.
// The zero value is ready.
type Shared struct {
	once   sync.Once
	engine *Engine
	dir    string
	err    error
}

// Engine returns the running engine, and restarts it if an earlier test left it dead. A test on a machine that cannot
// have an engine is left out, in CI it fails.
func (s *Shared) Engine(t testing.TB) *Engine {
	t.Helper()
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "chtest-data-"); s.err == nil {
			s.engine, s.err = newEngine(context.Background(), s.dir, nil)
		}
	})
	if s.err != nil {
		noEngine(t, s.err)
	}
	if _, err := s.engine.Query(t.Context(), "SELECT 1"); err != nil {
		if err := s.engine.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	return s.engine
}

// Run runs the tests and ends the engine after them. Call it from TestMain.
func (s *Shared) Run(m interface{ Run() int }) int {
	code := m.Run()
	if s.engine != nil {
		if err := s.engine.Close(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if s.dir != "" {
		if err := os.RemoveAll(s.dir); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}
