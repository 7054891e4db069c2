package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile parses the file with BuildKit's parser and checks what the parser does not: a final stage
// that runs as root, and copied files that the context does not have.
func dockerfile(file, context string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		return err
	}
	var warnings []string
	lint := linter.New(&linter.Config{Warn: func(rule, description, _, message string, _ []parser.Range) {
		warnings = append(warnings, rule+": "+message+" ("+description+")")
	}})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		return err
	}
	if len(warnings) > 0 {
		return errors.New(strings.Join(warnings, "; "))
	}
	names := map[string]bool{}
	user := ""
	for _, stage := range stages {
		user = ""
		for _, c := range stage.Commands {
			switch c := c.(type) {
			case *instructions.UserCommand:
				user = c.User
			case *instructions.CopyCommand:
				if err := copied(c, names, context); err != nil {
					return err
				}
			}
		}
		names[stage.Name] = true
	}
	if user == "" || user == "root" || user == "0" {
		return errors.New("the final stage runs as root")
	}
	fmt.Printf("%d stages, the last as user %s\n", len(stages), user)
	return nil
}

// copied reports a source that is neither a stage nor in the context.
func copied(c *instructions.CopyCommand, stages map[string]bool, context string) error {
	if c.From != "" {
		if !stages[c.From] {
			return fmt.Errorf("%s copies from the stage %s, which is not there", c, c.From)
		}
		return nil
	}
	for _, source := range c.SourcePaths {
		if _, err := os.Stat(filepath.Join(context, source)); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	return nil
}
