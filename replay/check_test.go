package replay

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestGuideDescribesChecks: GUIDE.md has one line a check, with the text of the table in check.go.
func TestGuideDescribesChecks(t *testing.T) {
	guide, err := os.ReadFile("GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range checks {
		if line := fmt.Sprintf("\n| %s | %s |\n", c.name, c.advice); seen[c.name] || !strings.Contains(string(guide), line) {
			t.Errorf("under \"Getting Help\" GUIDE.md needs this line once: %s", strings.TrimSpace(line))
		}
		seen[c.name] = true
	}
	_, help, _ := strings.Cut(string(guide), "## Getting Help")
	if rows := strings.Count(help, "\n| "); rows != len(checks)+5 { // header and four exit codes
		t.Errorf("\"Getting Help\" has %d rows, want %d: a row names no check", rows, len(checks)+5)
	}
}
