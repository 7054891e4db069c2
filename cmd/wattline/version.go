package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set by the linker in a release build (-X main.release=v1.2.3).
//
//nolint:gochecknoglobals // the linker can only set a global variable
var release string

// version returns the release, or the module version or commit of the build.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if rev == "" {
		return "devel"
	}
	return "devel-" + rev + dirty
}

type versionCmd struct{}

// Run prints the version, the compiler and the platform.
func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintf(a.stdout, "wattline %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
