package term

import "testing"

// TestSpreadsheetText: what a client sends reaches no spreadsheet as a formula; numbers and other text stay as they are.
func TestSpreadsheetText(t *testing.T) {
	for field, want := range map[string]string{
		"": "", "opencode": "opencode", "-12.5": "-12.5", "+1e3": "+1e3", "2026-02-07": "2026-02-07", `{"a":"=1"}`: `{"a":"=1"}`,
		`=HYPERLINK("http://x")`: `'=HYPERLINK("http://x")`, "-2+cmd|' /C calc'!A0": "'-2+cmd|' /C calc'!A0", "@SUM(1)": "'@SUM(1)", "+x": "'+x", "\t=1": "'\t=1", "\r=1": "'\r=1",
	} {
		if got := SpreadsheetText(field); got != want {
			t.Errorf("%q gives %q, want %q", field, got, want)
		}
	}
}
