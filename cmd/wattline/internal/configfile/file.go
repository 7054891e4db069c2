// Package configfile reads the configuration file: any flag is a key in it, and routes, which have no flag.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// File is the content of the configuration file; the zero value means that there is none. It is kong's resolver
// for flags that neither the command line nor the environment sets.
type File struct {
	path   string
	values map[string]any
	Routes []Route
}

// Read reads the file that --config or WATTLINE_CONFIG names, else the first default file that exists.
func Read(args []string) (*File, error) {
	path, named := findPath(args)
	if path == "" {
		return &File{}, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &File{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", err)
	}
	f := &File{path: path}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // the byte order mark of some editors
	var doc *ast.File
	err = recoverYAML(func() (err error) { doc, err = parser.ParseBytes(text, 0); return err })
	if err == nil && len(doc.Docs) > 1 && doc.Docs[1].Body != nil {
		return nil, fmt.Errorf("the configuration file %s has several YAML documents: leave one, because only the first would be used", path)
	}
	if err == nil {
		err = recoverYAML(func() error { return yaml.Unmarshal(text, &f.values) })
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration file %s is not valid YAML of the form key: value; correct %s", path, yamlErrorLine(err))
	}
	if _, ok := f.values["routes"]; ok {
		if err := recoverYAML(func() (err error) { f.Routes, err = readRoutes(doc); return err }); err != nil {
			return nil, fmt.Errorf("routes in %s must be a list of {name, listen, upstream, gpus, labels}; correct %s", path, yamlErrorLine(err))
		}
		delete(f.values, "routes")
	}
	return f, nil
}

// errYAMLPanic replaces a panic of the YAML library, which some malformed texts cause.
var errYAMLPanic = errors.New("the syntax, which the YAML parser cannot read")

// recoverYAML calls f, which uses the YAML library, and turns a panic into an error.
func recoverYAML(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errYAMLPanic
		}
	}()
	return f()
}

// readRoutes decodes routes from the parsed file, so that errors name the line.
func readRoutes(doc *ast.File) (routes []Route, err error) {
	at, err := yaml.PathString("$.routes")
	if err != nil {
		return nil, err
	}
	node, err := at.FilterFile(doc)
	if err != nil {
		return nil, err
	}
	err = yaml.NodeToValue(node, &routes, yaml.Strict())
	return routes, err
}

// yamlErrorLine formats an error of the YAML library as one line with its position.
func yamlErrorLine(err error) string {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return first
	}
	at := e.GetToken().Position
	return fmt.Sprintf("line %d, column %d: %s", at.Line, at.Column, e.GetMessage())
}

// findPath finds the path of the configuration file in the arguments, because kong needs the file before it parses
// them. named reports whether --config or WATTLINE_CONFIG names it.
func findPath(args []string) (path string, named bool) {
	for i, a := range args {
		switch {
		case a == "--":
			args = nil
		case a == "--config" && i+1 < len(args):
			return args[i+1], true
		case strings.HasPrefix(a, "--config="):
			return strings.TrimPrefix(a, "--config="), true
		}
		if args == nil {
			break
		}
	}
	if p := os.Getenv("WATTLINE_CONFIG"); p != "" {
		return p, true
	}
	for _, dir := range []string{XDG("XDG_CONFIG_HOME", ".config"), "/etc"} {
		if dir == "" {
			continue
		}
		p := filepath.Join(dir, "wattline", "config.yaml")
		if _, err := os.Stat(p); err == nil {
			return p, false
		}
	}
	return "", false
}

// XDG returns a base directory of the XDG specification, by which a relative path is ignored.
func XDG(env, fallback string) string {
	if d := os.Getenv(env); filepath.IsAbs(d) {
		return d
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, fallback)
}
