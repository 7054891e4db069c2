// Package web holds the files of the web console. They are served as they are, and modules among them are written into pages
// that stand alone, such as the report of replay.
package web

import (
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Files are the console's own files and its vendored libraries. None of them is made by a build step.
//
//go:embed index.html app.js style.css icon.svg lib pages vendor
var Files embed.FS

var imported = regexp.MustCompile(`(\b(?:from|import)\s*)"(\.[^"]+)"`)

// Inline returns an import map that holds a module and all that it imports, so that a page which loads nothing can import it
// by its name ("lib/chart.js").
func Inline(modules ...string) (importMap string, err error) {
	all := map[string]string{}
	for _, name := range modules {
		if err := inline(name, all); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"imports": all})
	return string(text), err
}

func inline(name string, all map[string]string) error {
	if _, ok := all[name]; ok {
		return nil
	}
	text, err := Files.ReadFile(name)
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	all[name] = "" // modules may import each other
	var wanted []string
	script := imported.ReplaceAllStringFunc(string(text), func(m string) string {
		parts := imported.FindStringSubmatch(m)
		other := path.Join(path.Dir(name), parts[2])
		wanted = append(wanted, other)
		return parts[1] + `"` + other + `"`
	})
	all[name] = "data:text/javascript;base64," + base64.StdEncoding.EncodeToString([]byte(script))
	for _, other := range wanted {
		if err := inline(other, all); err != nil {
			return err
		}
	}
	return nil
}

// Style is the style sheet for a page that stands alone: without scripts, too, it is light where the reader wants it so.
func Style() (string, error) {
	chart, err := Files.ReadFile("vendor/uplot.css")
	if err != nil {
		return "", fmt.Errorf("web: %w", err)
	}
	own, err := Files.ReadFile("style.css")
	if err != nil {
		return "", fmt.Errorf("web: %w", err)
	}
	_, rest, _ := strings.Cut(string(own), ":root[data-theme=light] {")
	light, _, _ := strings.Cut(rest, "}")
	return string(chart) + string(own) + "@media (prefers-color-scheme: light) { :root:not([data-theme]) {" + light + "} }\n", nil
}
