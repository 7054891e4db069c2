package configfile

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Validate rejects keys that are no flag of any command, so that a misspelt setting is not ignored.
func (f *File) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, fl := range n.Flags {
			known[fl.Name] = true
		}
		for _, c := range n.Children {
			visit(c)
		}
	}
	visit(app.Node)
	seen := map[string]bool{}
	for k := range f.values {
		if !known[flagName(k)] || k == "config" {
			return fmt.Errorf("the configuration file %s has the key %q, which is not a flag of wattline", f.path, k)
		}
		if seen[flagName(k)] {
			return fmt.Errorf("the configuration file %s sets %q twice, with - and with _: leave one", f.path, flagName(k))
		}
		seen[flagName(k)] = true
	}
	return nil
}

// Resolve returns the value of a flag in the file, or nil.
func (f *File) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil //nolint:nilnil // the environment wins
		}
	}
	for k, v := range f.values {
		if flagName(k) == flag.Name {
			return flagText(v, flag)
		}
	}
	return nil, nil //nolint:nilnil // kong expects nil for a flag that is not set
}

// flagText formats a YAML value as it would be written on the command line, so that kong parses it by the same rules.
// Otherwise kong would read a YAML number as a duration in nanoseconds.
func flagText(v any, flag *kong.Flag) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil //nolint:nilnil // a key without a value sets nothing
	case []any:
		if !flag.IsSlice() {
			return nil, fmt.Errorf("--%s takes one value, but the configuration file has a list", flag.Name)
		}
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = kong.JoinEscaped([]string{fmt.Sprint(e)}, flag.Tag.Sep)
		}
		return strings.Join(parts, string(flag.Tag.Sep)), nil
	case map[string]any:
		if !flag.IsMap() {
			return nil, fmt.Errorf("--%s takes one value, but the configuration file has keys below it", flag.Name)
		}
		parts := make([]string, 0, len(v))
		for k, e := range v {
			parts = append(parts, kong.JoinEscaped([]string{k + "=" + fmt.Sprint(e)}, flag.Tag.MapSep))
		}
		return strings.Join(parts, string(flag.Tag.MapSep)), nil
	case string:
		return v, nil
	default:
		return fmt.Sprint(v), nil
	}
}

// flagName maps the key price_per_kwh to the flag price-per-kwh.
func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }
