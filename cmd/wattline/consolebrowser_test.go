package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	pagecdp "github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"wattline/deploy/debian"
	"wattline/deploy/llama"
)

// chromium is one real browser for all tests of the console.
type chromium struct {
	t     *testing.T
	alloc context.Context
	dir   string // where screenshots go
}

// startChromium starts the browser; it ends with the test. Screenshots are kept in $WATTLINE_ARTEFACTS, else in a folder of
// the test's own.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path := debian.Need(t, "chromium")
	profile, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, //nolint:gocritic // a copy
		chromedp.UserDataDir(profile), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1600, 1000), chromedp.WSURLReadTimeout(patience))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		cancel()
		stop()
		for deadline := time.Now().Add(time.Minute); os.RemoveAll(profile) != nil && time.Now().Before(deadline); {
			<-time.After(50 * time.Millisecond) // its processes may still write there
		}
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("WATTLINE_ARTEFACTS")
	if dir == "" {
		dir = t.TempDir()
	}
	return &chromium{t: t, alloc: ctx, dir: dir}
}

// tab is one page. It keeps what a page of the console must never do.
type tab struct {
	t   *testing.T
	ctx context.Context
	c   *chromium

	mu       sync.Mutex // guards what follows
	origin   string
	bad      []string // errors of the console, exceptions, requests to other origins
	tolerate bool     // the server is away: failed requests are no fault of the page
}

// open opens a new tab of this size at an address.
func (c *chromium) open(t *testing.T, origin, path string, width, height int64) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(c.alloc)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil { // what runs first decides how long the tab lives
		t.Fatal(err)
	}
	p := &tab{t: t, ctx: ctx, c: c, origin: origin}
	chromedp.ListenTarget(ctx, p.heard)
	p.do(network.Enable(), cdplog.Enable(), pagecdp.BringToFront(), emulation.SetFocusEmulationEnabled(true), emulation.SetDeviceMetricsOverride(width, height, 1, false))
	p.visit(path)
	return p
}

func (p *tab) heard(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *cdpruntime.EventExceptionThrown:
		p.bad = append(p.bad, "exception: "+e.ExceptionDetails.Error())
	case *cdpruntime.EventConsoleAPICalled:
		if e.Type == cdpruntime.APITypeError || e.Type == cdpruntime.APITypeWarning {
			p.bad = append(p.bad, fmt.Sprintf("console.%s: %s", e.Type, e.Args[0].Value))
		}
	case *cdplog.EventEntryAdded:
		icon := strings.HasSuffix(e.Entry.URL, "/favicon.ico") // the browser asks for it where a page names none, such as a refusal
		if !p.tolerate && !icon && e.Entry.Level == cdplog.LevelError {
			p.bad = append(p.bad, "log: "+e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		u := e.Request.URL
		if scheme, rest, ok := strings.Cut(u, "://"); ok { // a page may be opened with a name and a password in its address
			host, path, _ := strings.Cut(rest, "/")
			u = scheme + "://" + host[strings.LastIndex(host, "@")+1:] + "/" + path
		}
		if !strings.HasPrefix(u, p.origin+"/") && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "blob:") && !strings.HasPrefix(u, "about:") {
			p.bad = append(p.bad, "a request to another origin: "+u)
		}
	}
}

// clean fails the test for what the page has done that it must not do.
func (p *tab) clean() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.bad {
		p.t.Error(b)
	}
	p.bad = nil
}

func (p *tab) tolerating(on bool) { p.mu.Lock(); p.tolerate = on; p.mu.Unlock() }

func (p *tab) do(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) visit(path string) { p.t.Helper(); p.visitURL(p.origin + path) }

func (p *tab) visitURL(url string) { p.t.Helper(); p.do(chromedp.Navigate(url)) }

// eval evaluates an expression, which may be a promise, into out.
func (p *tab) eval(expression string, out any) {
	p.t.Helper()
	await := func(e *cdpruntime.EvaluateParams) *cdpruntime.EvaluateParams { return e.WithAwaitPromise(true) }
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Evaluate(expression, out, await)); err != nil {
		p.t.Fatalf("%v in %.200s", err, expression)
	}
}

// until waits for an expression to be true, and says what the page showed if it never is.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		var ok bool
		p.eval("Promise.resolve("+expression+").then((v) => !!v)", &ok)
		if ok {
			return
		}
		if time.Now().After(deadline) {
			var text string
			p.eval("document.body.innerText.slice(0, 3000)", &text)
			p.shoot("failed-" + strings.Map(wordLetters, what))
			p.t.Fatalf("%s: never %s; the page shows:\n%s", what, expression, text)
		}
	}
}

func wordLetters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// types is a person who types this password once where the browser asks for one, and then gives up.
func (p *tab) types(password string) {
	p.t.Helper()
	typed := map[string]bool{}
	answer := func(action chromedp.Action) {
		go func() { _ = chromedp.Run(p.ctx, action) }() // a listener must not wait
	}
	chromedp.ListenTarget(p.ctx, func(event any) {
		switch e := event.(type) {
		case *fetch.EventRequestPaused:
			answer(fetch.ContinueRequest(e.RequestID))
		case *fetch.EventAuthRequired:
			response := &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: "x", Password: password}
			if typed[e.Request.URL] {
				response = &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
			}
			typed[e.Request.URL] = true
			answer(fetch.ContinueWithAuth(e.RequestID, response))
		}
	})
	p.do(fetch.Enable().WithHandleAuthRequests(true))
}

// settle waits until no answer is on its way and what came is drawn.
func (p *tab) settle() {
	p.t.Helper()
	p.until("at rest", `new Promise((done) => { let n = -1, tries = 0; const look = () => { const now = performance.getEntriesByType("resource").length;
	  if ((now === n && !document.querySelector(".stale")) || ++tries > 40) done(true); else { n = now; setTimeout(look, 250); } }; look(); })`)
}

// shoot keeps a picture of the page.
func (p *tab) shoot(name string) {
	p.t.Helper()
	var png []byte
	p.do(chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Join(p.c.dir, name+".png"), png, 0o600); err != nil {
		p.t.Error(err)
	}
}

// axe has axe-core look at the page and fails the test for each rule that is broken.
func (p *tab) axe(source, what string) {
	p.t.Helper()
	p.eval(source+"; 1", nil)
	var found []string
	p.eval(`axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.map((v) => v.impact + ": " + v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")))`, &found)
	for _, f := range found {
		p.t.Errorf("%s: axe: %s", what, f)
	}
}

// The npm package of axe-core, and what its tarball must hash to, whatever the registry says.
const (
	axePackage = "axe-core@4.14.1"
	axeSHA512  = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)

// axeSource is axe.min.js of the npm package, from the cache or fetched into it.
func axeSource(t *testing.T) string {
	t.Helper()
	cache, err := llama.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cache, strings.ReplaceAll(axePackage, "@", "-")+".tgz")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		npm, err := exec.LookPath("npm")
		if err != nil {
			debian.LeaveOut(t, fmt.Sprintf("this test needs npm once, for %s: install it, or copy a filled %s here: %v", axePackage, file, err))
		}
		tmp, err := os.MkdirTemp(cache, ".axe-")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		cmd := exec.CommandContext(t.Context(), npm, "pack", "--silent", "--fetch-retries", "5", "--cache", filepath.Join(tmp, "npm"), axePackage)
		cmd.Dir = tmp
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("npm pack %s (is the registry reachable?): %v\n%s", axePackage, err, out)
		}
		packed, _ := filepath.Glob(filepath.Join(tmp, "*.tgz"))
		if len(packed) != 1 {
			t.Fatalf("npm pack left %v", packed)
		}
		if err := os.Rename(packed[0], file); err != nil {
			t.Fatal(err)
		}
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha512.Sum512(packed); base64.StdEncoding.EncodeToString(sum[:]) != axeSHA512 {
		t.Fatalf("%s hashes to sha512-%s, expected sha512-%s: remove it", file, base64.StdEncoding.EncodeToString(sum[:]), axeSHA512)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("no axe.min.js in %s: %v", file, err)
		}
		if h.Name == "package/axe.min.js" {
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
}

// js writes a Go value as a JavaScript literal.
func js(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(text)
}
