// Package completion completes wattline's command line in a shell: scripts that ask the program itself, and its answers,
// which come from the table of commands and flags.
package completion

import (
	_ "embed"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Scripts, by shell. Each calls "wattline complete -- WORDS", whose last word is the one to complete.
var (
	//go:embed bash.sh
	bash string
	//go:embed zsh.sh
	zsh string
	//go:embed fish.sh
	fish string
)

// Script is what a shell sources: bash, zsh or fish.
func Script(shell string) string {
	return map[string]string{"bash": bash, "zsh": zsh, "fish": fish}[shell]
}

// Files is the only answer where a file's name belongs.
const Files = ":files"

// Answers are what may stand in place of the last word, each with a tab and a description where there is one.
func Answers(app *kong.Application, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	words, last := split(words)
	at := app.Node
	var pending *kong.Flag // waits for its value
	for _, w := range words {
		switch {
		case pending != nil:
			pending = nil
		case strings.HasPrefix(w, "-"):
			name, _, joined := strings.Cut(w, "=")
			if f := flag(at, name); f != nil && !joined && !f.IsBool() {
				pending = f
			}
		default:
			if child := child(at, w); child != nil {
				at = child
			}
		}
	}
	switch name, value, joined := strings.Cut(last, "="); {
	case pending != nil:
		return values(pending, "", last)
	case joined && strings.HasPrefix(name, "-"):
		if f := flag(at, name); f != nil {
			return values(f, name+"=", value)
		}
		return nil
	case strings.HasPrefix(last, "-"):
		return flagNames(at, last)
	}
	var out []string
	for _, c := range at.Children {
		if !c.Hidden && strings.HasPrefix(c.Name, last) {
			out = append(out, c.Name+"\t"+c.Help)
		}
	}
	if len(out) == 0 && (len(at.Positional) > 0 || at.DefaultCmd != nil && len(at.DefaultCmd.Positional) > 0) {
		return []string{Files}
	}
	return out
}

// split separates the word to complete. bash makes three words of --flag=value; they are joined again.
func split(words []string) (before []string, last string) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if n := len(before); w == "=" && n > 0 && strings.HasPrefix(before[n-1], "--") {
			before[n-1] += "="
			if i++; i < len(words) {
				before[n-1] += words[i]
			}
			continue
		}
		before = append(before, w)
	}
	return before[:len(before)-1], before[len(before)-1]
}

// flags are those that may follow a command: its own, its default command's and its parents'.
func flags(at *kong.Node) (out []*kong.Flag) {
	if at.DefaultCmd != nil {
		out = append(out, at.DefaultCmd.Flags...)
	}
	for ; at != nil; at = at.Parent {
		out = append(out, at.Flags...)
	}
	return out
}

func flag(at *kong.Node, name string) *kong.Flag {
	all := flags(at)
	i := slices.IndexFunc(all, func(f *kong.Flag) bool { return "--"+f.Name == name || f.Short != 0 && "-"+string(f.Short) == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

func flagNames(at *kong.Node, prefix string) (out []string) {
	for _, f := range flags(at) {
		if name := "--" + f.Name; !f.Hidden && strings.HasPrefix(name, prefix) {
			out = append(out, name+"\t"+f.Help)
		}
	}
	return out
}

// values are a flag's: those of its enumeration, or files.
func values(f *kong.Flag, before, prefix string) (out []string) {
	if f.Enum == "" {
		if f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR" {
			return []string{Files}
		}
		return nil
	}
	for _, v := range f.EnumSlice() {
		if strings.HasPrefix(v, prefix) {
			out = append(out, before+v)
		}
	}
	return out
}

func child(at *kong.Node, name string) *kong.Node {
	i := slices.IndexFunc(at.Children, func(c *kong.Node) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return at.Children[i]
}
