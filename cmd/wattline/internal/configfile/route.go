package configfile

import (
	"fmt"
	"slices"
	"strings"
)

// Route is one listener and its upstream, an entry of routes in the configuration file.
type Route struct {
	Name     string            `yaml:"name"`
	Listen   string            `yaml:"listen"`
	Upstream string            `yaml:"upstream"`
	GPUs     []string          `yaml:"gpus"`
	Labels   map[string]string `yaml:"labels"`
}

// CheckRoutes returns the routes that serve runs: those of the file, or the one that the flags describe.
func CheckRoutes(routes []Route, flags Route) ([]Route, error) {
	if len(routes) == 0 {
		return []Route{flags}, nil
	}
	seen := map[string]string{}
	for i := range routes {
		r := &routes[i]
		if r.Listen == "" || r.Upstream == "" {
			return nil, fmt.Errorf("route %d of the configuration file needs both listen and upstream", i+1)
		}
		if r.Name == "" {
			r.Name = r.Listen
		}
		for what, v := range map[string]string{"name": r.Name, "listen": r.Listen} {
			if other, ok := seen[what+v]; ok && !strings.HasSuffix(v, ":0") {
				return nil, fmt.Errorf("routes %s and %s of the configuration file have the same %s %q", other, r.Name, what, v)
			}
			seen[what+v] = r.Name
		}
	}
	return slices.Clone(routes), nil
}
