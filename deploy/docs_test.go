package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// pages reads every Markdown page of the repository.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	all := map[string]string{}
	for page := range strings.FieldsSeq(string(out)) {
		text, err := os.ReadFile(filepath.Join("..", page))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		all[page] = string(text)
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

var (
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```$")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the link targets of a page's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		out[strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return out
}

// Every link between pages leads to a file that is there, and to a heading that is there.
func TestDocLinks(t *testing.T) {
	all, links := pages(t), 0
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			at := page
			if target != "" {
				at = filepath.Join(filepath.Dir(page), target)
				if _, err := os.Stat(filepath.Join("..", at)); err != nil {
					t.Errorf("%s links to %s, which is not there", page, m[1])
					continue
				}
			}
			if anchor != "" && !anchors(all[at])[anchor] {
				t.Errorf("%s links to %s, but %s has no such heading", page, m[1], at)
			}
		}
	}
	if links < 30 {
		t.Errorf("only %d links were found", links)
	}
}

// Prose stays within 100 columns; tables, code and links may be wider.
func TestDocColumns(t *testing.T) {
	for page, text := range pages(t) {
		if strings.Contains(page, "/results/") {
			continue // what programs printed
		}
		code := false
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			if code || strings.HasPrefix(line, "|") || strings.HasPrefix(line, "    ") || strings.Contains(line, "](") || strings.Contains(line, "://") {
				continue
			}
			if n := utf8.RuneCountInString(line); n > 100 {
				t.Errorf("%s:%d has %d columns", page, i+1, n)
			}
		}
	}
}

// README is short enough to be read.
func TestREADMELength(t *testing.T) {
	if n := strings.Count(pages(t)["README.md"], "\n"); n > 150 {
		t.Errorf("README.md has %d lines, more than 150", n)
	}
}

// A figure that several pages quote is the same in each: the groups of the patterns must match the same text.
func TestQuotedFigures(t *testing.T) {
	all := pages(t)
	for name, quotes := range map[string]map[string]string{
		"rms error of the joules: ours": {
			"README.md":              `h100-coalitions +phase +\d+ +([\d.]+) %`,
			"meter/energy/LEDGER.md": `(?m)^\| ` + "`h100-coalitions`" + `[^\n]*?\*\*([\d.]+) %\*\*`,
		},
		"cost of one stream on the H100": {
			"README.md": `one stream \(\+([\d.]+) %`,
			"replay/proxies/results/2026-11-28-proxies.md": `\+([\d.]+) \(-0\.25 to \+0\.29\): less`,
		},
		"cost of sampling": {
			"README.md":       `and ([\d.]+) % of a core for\s+sampling`,
			"gpu/SAMPLING.md": `([\d.]+) % of (?:one|a) core under load`,
		},
	} {
		said := map[string]string{}
		for page, pattern := range quotes {
			m := regexp.MustCompile(pattern).FindStringSubmatch(all[page])
			if m == nil {
				t.Errorf("%s: %s does not say it any more (%s)", name, page, pattern)
				continue
			}
			for other, value := range said {
				if value != m[1] {
					t.Errorf("%s is %s in %s and %s in %s", name, m[1], page, value, other)
				}
			}
			said[page] = m[1]
		}
	}
}
