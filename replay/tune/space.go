// Package tune searches the flags with which a llama-server does best on a workload. A [Candidate] is a choice of values
// for the flags of the declared space that the server's own --help accepts. [Search] is successive halving: every candidate
// is measured a little, the better half twice as long, and so on. Who wins that way may have been lucky, so the winner
// must still be compared with the flags as they were given.
package tune

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Knob is a flag, or two that belong together, with the values to try.
type Knob struct {
	Name   string
	Flags  [][]string // each with all its spellings; the first is written
	Values [][]string // by value, one for each flag; nil: the flag is left out, "": a bare flag
	needs  []string   // a flag that the given arguments must have
}

// Change is a knob set to a value.
type Change struct {
	Knob  *Knob
	Value int
}

// Candidate is a set of changes, at most one a knob.
type Candidate struct{ Changes []Change }

// Space are the knobs that a server knows. known are the flags of its --help and whether they take a value; given are the
// arguments of the user.
func Space(known map[string]bool, given []string) (out []*Knob) {
	threads := [][]string{}
	for n := 1; n <= runtime.NumCPU(); n *= 2 {
		threads = append(threads, []string{strconv.Itoa(n)})
	}
	if n := runtime.NumCPU(); n&(n-1) != 0 {
		threads = append(threads, []string{strconv.Itoa(n)})
	}
	all := []*Knob{
		{Name: "slots", Flags: [][]string{{"-np", "--parallel"}}, Values: [][]string{{"1"}, {"2"}, {"4"}, {"8"}}},
		{Name: "batch sizes", Flags: [][]string{{"-b", "--batch-size"}, {"-ub", "--ubatch-size"}}, Values: [][]string{{"1024", "256"}, {"2048", "512"}, {"4096", "1024"}, {"2048", "2048"}}},
		{Name: "flash attention", Flags: [][]string{{"-fa", "--flash-attn"}}, Values: [][]string{{"on"}, {"off"}}},
		{Name: "unified KV cache", Flags: [][]string{{"--kv-unified", "-kvu"}}, Values: [][]string{{""}, nil}},
		{Name: "layers on the GPU", Flags: [][]string{{"-ngl", "--gpu-layers", "--n-gpu-layers"}}, Values: [][]string{{"99"}}},
		{Name: "types of the KV cache", Flags: [][]string{{"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}}, Values: [][]string{{"f16", "f16"}, {"q8_0", "q8_0"}}},
		{Name: "threads", Flags: [][]string{{"-t", "--threads"}}, Values: threads},
		{Name: "draft depth", Flags: [][]string{{"--draft-max", "--draft", "--draft-n"}}, Values: [][]string{{"4"}, {"8"}, {"16"}}, needs: []string{"-md", "--model-draft"}},
	}
	for _, k := range all {
		if len(k.needs) > 0 && !slices.ContainsFunc(given, func(a string) bool { return slices.Contains(k.needs, a) }) {
			continue
		}
		if k.usable(known) {
			out = append(out, k)
		}
	}
	return out
}

// usable reports whether the server knows all flags of a knob, as they are written here. Spellings that it does not know
// are dropped.
func (k *Knob) usable(known map[string]bool) bool {
	for i, spellings := range k.Flags {
		k.Flags[i] = slices.DeleteFunc(slices.Clone(spellings), func(s string) bool { _, ok := known[s]; return !ok })
		if len(k.Flags[i]) == 0 {
			return false
		}
		bare := false
		for _, v := range k.Values {
			bare = bare || v != nil && v[i] == ""
		}
		if takes := known[k.Flags[i][0]]; takes == bare {
			return false
		}
	}
	return true
}

// Apply returns the arguments with the candidate's changes: flags that it sets are taken out of the given ones.
func (c Candidate) Apply(given []string) []string {
	out := slices.Clone(given)
	for _, ch := range c.Changes {
		for i, spellings := range ch.Knob.Flags {
			out = without(out, spellings)
			if v := ch.Knob.Values[ch.Value]; v != nil {
				out = append(out, spellings[0])
				if v[i] != "" {
					out = append(out, v[i])
				}
			}
		}
	}
	return out
}

// without takes a flag and its value out.
func without(args, spellings []string) (out []string) {
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		if !slices.Contains(spellings, name) {
			out = append(out, args[i])
			continue
		}
		if !joined && i+1 < len(args) && (!strings.HasPrefix(args[i+1], "-") || isNumber(args[i+1])) {
			i++
		}
	}
	return out
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// String is the candidate's flags.
func (c Candidate) String() string {
	if len(c.Changes) == 0 {
		return "as given"
	}
	var parts []string
	for _, ch := range c.Changes {
		if ch.Knob.Values[ch.Value] == nil {
			parts = append(parts, "no "+ch.Knob.Flags[0][0])
			continue
		}
		parts = append(parts, strings.Join(Candidate{[]Change{ch}}.Apply(nil), " "))
	}
	return strings.Join(parts, " ")
}

// same reports whether two candidates start the server alike.
func same(a, b Candidate, given []string) bool {
	x, y := a.Apply(given), b.Apply(given)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// WithoutAddress leaves --host and --port out: the server runs on a free port of the loopback.
func WithoutAddress(args []string) (out []string) {
	for i := 0; i < len(args); i++ {
		switch name, _, joined := strings.Cut(args[i], "="); {
		case name != "--host" && name != "--port":
			out = append(out, args[i])
		case !joined:
			i++
		}
	}
	return out
}

// Quote writes a command as a shell reads it.
func Quote(args []string) string {
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$&|;<>()*?[]{}~#`!") {
			args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(args, " ")
}
