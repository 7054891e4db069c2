package console_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The vendored libraries are the files that refresh.sh wrote down, none more and none less.
func TestVendoredFiles(t *testing.T) {
	text, err := os.ReadFile("web/vendor/vendor.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ File, Package, Version, Licence, NPM, SHA256 string }
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	licences, err := os.ReadFile("web/vendor/LICENCES.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"vendor.json": true, "LICENCES.txt": true, "refresh.sh": true}
	for _, v := range list {
		known[v.File] = true
		b, err := os.ReadFile(filepath.Join("web/vendor", v.File))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != v.SHA256 {
			t.Errorf("%s is not the file of %s@%s that vendor.json names: run web/vendor/refresh.sh %s@%s", v.File, v.Package, v.Version, v.Package, v.Version)
		}
		if !strings.HasPrefix(v.NPM, "sha512-") || !strings.Contains(string(licences), v.Package+" "+v.Version+" ("+v.Licence+")") {
			t.Errorf("%s: the package's checksum or its licence is missing", v.File)
		}
	}
	files, err := os.ReadDir("web/vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("web/vendor/%s is not in vendor.json", f.Name())
		}
	}
	if len(list) < 5 {
		t.Errorf("%d files are listed", len(list))
	}
}

var imported = regexp.MustCompile(`(?:from|import\()\s*"(\.[^"]+)"`)

// modules are the files that a script imports when it is loaded, itself included.
func modules(t *testing.T, name string, seen map[string]bool) {
	t.Helper()
	if seen[name] {
		return
	}
	seen[name] = true
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range imported.FindAllStringSubmatch(string(text), -1) {
		if !strings.HasPrefix(m[0], "import(") { // a page that is opened later
			modules(t, path.Join(path.Dir(name), m[1]), seen)
		}
	}
}

// maxFirstPage is the most that the first page may transfer, compressed.
const maxFirstPage = 150_000

func TestFirstPageIsSmall(t *testing.T) {
	seen := map[string]bool{"web/index.html": true, "web/style.css": true, "web/icon.svg": true, "web/vendor/uplot.css": true}
	modules(t, "web/app.js", seen)
	modules(t, "web/pages/live.js", seen)
	index, err := os.ReadFile("web/index.html")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for name := range seen {
		if path.Ext(name) == ".js" && !strings.Contains(string(index), `<link rel="modulepreload" href="/`+name+`">`) {
			t.Errorf("index.html does not preload %s: the browser learns of it only from another script", name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if _, err := z.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		sum += b.Len() + 350 // the head of the reply
	}
	if sum > maxFirstPage || len(seen) < 20 {
		t.Errorf("%d files of the first page take %d bytes, at most %d are wanted", len(seen), sum, maxFirstPage)
	}
	t.Logf("%d files, %d bytes compressed", len(seen), sum)
}

// scripts are our own files of the page.
func scripts(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("web", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, filepath.Join("web", "vendor")) {
			return err
		}
		text, err := os.ReadFile(name)
		out[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What the page must not contain: ways for text to become markup, inline scripts and styles, other hosts, long modules.
func TestPageIsPlain(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\bstyle="|\son[a-z]+="|javascript:|@import`)
	hosts := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	for name, text := range scripts(t) {
		if m := forbidden.FindString(text); m != "" {
			t.Errorf("%s contains %q", name, m)
		}
		for _, m := range hosts.FindAllString(text, -1) {
			if m != "http://www.w3.org" {
				t.Errorf("%s names another host: %s", name, m)
			}
		}
		if n := strings.Count(text, "\n"); n > 400 {
			t.Errorf("%s has %d lines, 400 at most are wanted", name, n)
		}
	}
	index := scripts(t)["web/index.html"]
	if n := strings.Count(index, "<script"); n != 1 || !strings.Contains(index, `<script type="module" src="/web/app.js"></script>`) {
		t.Errorf("index.html has %d scripts, wanted is app.js alone", n)
	}
}

// sights are linear RGB matrices of a reader with full colour vision, and of protanopia, deuteranopia and tritanopia by
// Machado, Oliveira and Fernandes (2009), severity 1.
//
//nolint:gochecknoglobals // a constant table
var sights = map[string][9]float64{
	"full":   {1, 0, 0, 0, 1, 0, 0, 0, 1},
	"protan": {0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998},
	"deutan": {0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881},
	"tritan": {1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900},
}

// seen is a colour (#rrggbb) as Oklab coordinates, x 100, for a reader with this sight.
func seen(t *testing.T, colour string, sight [9]float64) [3]float64 {
	t.Helper()
	v, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	var lin, rgb [3]float64
	for i := range lin {
		c := float64(v>>(16-8*i)&255) / 255
		if lin[i] = c / 12.92; c > 0.04045 {
			lin[i] = math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	for i := range rgb {
		rgb[i] = min(1, max(0, sight[3*i]*lin[0]+sight[3*i+1]*lin[1]+sight[3*i+2]*lin[2]))
	}
	l := math.Cbrt(0.4122214708*rgb[0] + 0.5363325363*rgb[1] + 0.0514459929*rgb[2])
	m := math.Cbrt(0.2119034982*rgb[0] + 0.6806995451*rgb[1] + 0.1073969566*rgb[2])
	s := math.Cbrt(0.0883024619*rgb[0] + 0.2817188376*rgb[1] + 0.6299787005*rgb[2])
	return [3]float64{
		100 * (0.2104542553*l + 0.7936177850*m - 0.0040720468*s), 100 * (1.9779984951*l - 2.4285922050*m + 0.4505937099*s),
		100 * (0.0259040371*l + 0.7827717662*m - 0.8086757660*s),
	}
}

func apart(a, b [3]float64) float64 {
	return math.Sqrt((a[0]-b[0])*(a[0]-b[0]) + (a[1]-b[1])*(a[1]-b[1]) + (a[2]-b[2])*(a[2]-b[2]))
}

// leastApart is the smallest distance of two identity colours for any reader: five times what one can just tell apart side
// by side (2 on this scale).
const leastApart = 10

// The eight identity colours stay apart for every reader, and apart from the colours of the phases.
func TestIdentityColours(t *testing.T) {
	files := scripts(t)
	line := regexp.MustCompile(`export const hues = \[(.*)\]`).FindStringSubmatch(files["web/lib/colour.js"])
	if line == nil {
		t.Fatal("no hues in colour.js")
	}
	hex := regexp.MustCompile(`#[0-9a-f]{6}`)
	hues := hex.FindAllString(line[1], -1)
	var phases []string
	for _, name := range []string{"queue", "prefill", "decode"} {
		phases = append(phases, hex.FindString(regexp.MustCompile(`--`+name+`: #[0-9a-f]{6}`).FindString(files["web/style.css"])))
	}
	if len(hues) != 8 {
		t.Fatalf("%d hues", len(hues))
	}
	for sight, matrix := range sights {
		least := math.Inf(1)
		for i, a := range hues {
			for _, b := range hues[:i] {
				d := apart(seen(t, a, matrix), seen(t, b, matrix))
				if least = min(least, d); d < leastApart {
					t.Errorf("%s: %s and %s are %.1f apart", sight, a, b, d)
				}
			}
			for _, p := range phases {
				if d := apart(seen(t, a, matrix), seen(t, p, matrix)); sight == "full" && d < leastApart {
					t.Errorf("%s is %.1f from the phase colour %s", a, d, p)
				}
			}
		}
		t.Logf("%s: the closest two are %.1f apart", sight, least)
	}
}
