package gpu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Candidate is a device that an upstream may run on.
type Candidate struct {
	Source     Source
	Info       Info
	Procs      []Process
	ProcsKnown bool
}

// Candidates lists the GPUs of a source, with the processes that compute on each. Devices that sleep are not opened,
// and one that cannot be opened is listed without processes.
func Candidates(s Source, sysRoot string) ([]Candidate, error) {
	infos, err := s.List()
	if err != nil {
		return nil, err
	}
	var out []Candidate
	for _, in := range infos {
		c := Candidate{Source: s, Info: in}
		if in.PCI == "" || !RuntimeSuspended(sysRoot, in.PCI) {
			c.listProcesses()
		}
		out = append(out, c)
	}
	return out, nil
}

// listProcesses opens the device to list its processes.
func (c *Candidate) listProcesses() {
	d, err := c.Source.Open(c.Info.UUID)
	if err != nil {
		return
	}
	defer d.Close() //nolint:errcheck // only read
	c.Info = d.Info()
	var r Reading
	if err := d.Read(MetricProcesses, &r); err == nil {
		c.Procs, c.ProcsKnown = r.Procs, r.ProcsKnown
	}
}

// Selector holds what is known about where an upstream computes.
type Selector struct {
	GPUs              []string           // of the route's "gpus": indices, UUIDs or PCI addresses, or all; empty: find out
	Local             bool               // the upstream is on this machine
	IsUpstreamProcess func(pid int) bool // whether a process is the upstream's; nil where that is not known
}

// ErrUndetermined means that the devices of an upstream could not be determined; the message says what to set.
var ErrUndetermined = errors.New("the upstream's GPU is not known")

// SelectDevices returns which candidates are the upstream's, and in a sentence why. Without Selector.GPUs these
// are the devices on which the upstream's processes compute; where that is not known, the only GPU of
// the machine; never all of several, and none for an upstream on another machine.
func SelectDevices(w Selector, all []Candidate) (chosen []int, why string, err error) {
	if len(w.GPUs) > 0 {
		if slices.Equal(w.GPUs, []string{"all"}) && len(all) > 0 {
			for i := range all {
				chosen = append(chosen, i)
			}
			return chosen, "gpus: names all", nil
		}
		for _, wish := range w.GPUs {
			i, err := find(wish, all)
			if err != nil {
				return nil, "", err
			}
			chosen = append(chosen, i)
		}
		return chosen, "named by gpus:", nil
	}
	if !w.Local {
		return nil, "", fmt.Errorf("%w: it is on another machine; run a wattline there, or name devices of this machine under `gpus`", ErrUndetermined)
	}
	if len(all) == 0 {
		return nil, "", fmt.Errorf("%w: there is no GPU that can be read here", ErrUndetermined)
	}
	for i, c := range all {
		if c.ProcsKnown && w.IsUpstreamProcess != nil && anyUpstream(c.Procs, w.IsUpstreamProcess) {
			chosen = append(chosen, i)
		}
	}
	switch {
	case len(chosen) > 0:
		return chosen, "the upstream's processes compute there", nil
	case len(all) == 1:
		return []int{0}, "the only GPU of this machine", nil
	}
	return nil, "", fmt.Errorf("%w: none of its processes is seen on one of the %d GPUs; name them with gpus: (index, UUID or PCI address): %s", ErrUndetermined, len(all), names(all))
}

func anyUpstream(procs []Process, ours func(int) bool) bool {
	for _, p := range procs {
		if ours(p.PID) {
			return true
		}
	}
	return false
}

// find returns the candidate that a wish names: its index, its UUID or the unmistakable beginning of it
// (8 characters at least), or its PCI address with or without the domain.
func find(wish string, all []Candidate) (int, error) {
	found := -1
	if n, err := strconv.Atoi(wish); err == nil {
		for i, c := range all {
			if c.Info.Index == n {
				return i, nil
			}
		}
	}
	for i, c := range all {
		u, pci := strings.ToLower(c.Info.UUID), strings.ToLower(c.Info.PCI)
		low := strings.ToLower(wish)
		_, short, _ := strings.Cut(pci, ":")
		switch {
		case low == u, pci != "" && (low == pci || low == short):
			return i, nil
		case len(low) >= 8 && strings.HasPrefix(u, low):
			if found >= 0 {
				return 0, fmt.Errorf("gpus: %q is the beginning of several UUIDs: %s", wish, names(all))
			}
			found = i
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("gpus: there is no %q here; there are: %s", wish, names(all))
	}
	return found, nil
}

// names lists the candidates as gpus: takes them.
func names(all []Candidate) string {
	if len(all) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, c := range all {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d = %s %s %s", c.Info.Index, c.Info.Name, c.Info.UUID, c.Info.PCI)
	}
	return strings.TrimSpace(b.String())
}
