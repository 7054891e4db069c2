package gpu

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSelectDevices(t *testing.T) {
	card := func(i int, uuid, pci string, known bool, pids ...int) Candidate {
		c := Candidate{Info: Info{Index: i, UUID: uuid, PCI: pci, Name: "card"}, ProcsKnown: known}
		for _, p := range pids {
			c.Procs = append(c.Procs, Process{PID: p})
		}
		return c
	}
	ours := func(pid int) bool { return pid == 10 || pid == 11 }
	two := []Candidate{card(0, "GPU-aaaaaaaa-1", "0000:01:00.0", true, 5), card(1, "GPU-bbbbbbbb-2", "0000:c3:00.0", true, 10, 5)}
	split := []Candidate{card(0, "GPU-aaaaaaaa-1", "0000:01:00.0", true, 10), card(1, "GPU-aaaaaaaa-2", "0000:c3:00.0", true, 11)}
	blind := []Candidate{card(0, "GPU-aaaaaaaa-1", "", false), card(1, "GPU-bbbbbbbb-2", "", false)}
	for _, x := range []struct {
		name string
		wish Selector
		all  []Candidate
		want []int
		err  string
	}{
		{"where its process computes", Selector{Local: true, IsUpstreamProcess: ours}, two, []int{1}, ""},
		{"a model split over two", Selector{Local: true, IsUpstreamProcess: ours}, split, []int{0, 1}, ""},
		{"the only one, process not seen", Selector{Local: true, IsUpstreamProcess: ours}, two[:1], []int{0}, ""},
		{"the only one, processes not known", Selector{Local: true}, blind[:1], []int{0}, ""},
		{"two and nothing known: never all", Selector{Local: true}, blind, nil, "gpus:"},
		{"two and none is ours", Selector{Local: true, IsUpstreamProcess: func(int) bool { return false }}, two, nil, "gpus:"},
		{"a remote upstream", Selector{IsUpstreamProcess: ours}, two, nil, "another machine"},
		{"a remote upstream with one card here", Selector{}, two[:1], nil, "another machine"},
		{"no card", Selector{Local: true}, nil, nil, "no GPU"},
		{"by index", Selector{GPUs: []string{"1"}}, two, []int{1}, ""},
		{"by UUID", Selector{GPUs: []string{"GPU-bbbbbbbb-2"}}, two, []int{1}, ""},
		{"by the beginning of a UUID", Selector{GPUs: []string{"gpu-bbbb"}}, two, []int{1}, ""},
		{"by an ambiguous beginning", Selector{GPUs: []string{"GPU-aaaaaaaa"}}, split, nil, "several"},
		{"by PCI address", Selector{GPUs: []string{"0000:C3:00.0", "01:00.0"}}, two, []int{1, 0}, ""},
		{"all, said so", Selector{GPUs: []string{"all"}}, two, []int{0, 1}, ""},
		{"all of none", Selector{GPUs: []string{"all"}}, nil, nil, "none"},
		{"a name that is none", Selector{GPUs: []string{"7"}, Local: true}, two, nil, "GPU-bbbbbbbb-2"},
	} {
		got, why, err := SelectDevices(x.wish, x.all)
		if !slices.Equal(got, x.want) || (err == nil) != (x.err == "") || (err != nil && !strings.Contains(err.Error(), x.err)) {
			t.Errorf("%s: %v (%s), %v; want %v, %q", x.name, got, why, err, x.want, x.err)
		}
		if len(x.wish.GPUs) == 0 && err != nil && !errors.Is(err, ErrUndetermined) {
			t.Errorf("%s: %v is not ErrUndetermined", x.name, err)
		}
	}
}
