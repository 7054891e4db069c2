package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"wattline/sink/console/web"
)

// contentTypes are the kinds of files that are served; others in the folder are not.
//
//nolint:gochecknoglobals // a constant table
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp", ".woff2": "font/woff2", ".txt": "text/plain; charset=utf-8",
}

// pages are the first parts of paths that the page itself answers to: the state is in its URL.
//
//nolint:gochecknoglobals // a constant list
var pages = []string{"", "live", "requests", "sessions", "energy", "queries", "runs", "health"}

// asset is an embedded file, ready to be sent.
type asset struct {
	contentType, etag string
	plain, gzipped    []byte // gzipped is nil where that is no smaller
}

// assets are the embedded files by path, each compressed once.
//
//nolint:gochecknoglobals // made once, when the first page asks
var assets = sync.OnceValue(func() map[string]*asset {
	out := map[string]*asset{}
	err := fs.WalkDir(web.Files, ".", func(name string, d fs.DirEntry, err error) error {
		kind := contentTypes[path.Ext(name)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		text, err := web.Files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		a := &asset{contentType: kind, etag: `"` + hex.EncodeToString(sum[:8]) + `"`, plain: text}
		if z := fasthttp.AppendGzipBytesLevel(nil, text, fasthttp.CompressBestCompression); len(z) < len(text) {
			a.gzipped = z
		}
		out["/web/"+name] = a
		return nil
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return out
})

// contentSecurity lets the page load from here alone, run no inline script or style, and be framed by nobody.
const contentSecurity = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// page answers with an embedded file; ok is false where there is none.
func page(ctx *fasthttp.RequestCtx, name string) (ok bool) {
	if first, _, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/"); slices.Contains(pages, first) {
		name = "/web/index.html"
	}
	a := assets()[name]
	if a == nil {
		return false
	}
	h := &ctx.Response.Header
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding")
	if bytes.Contains(ctx.Request.Header.Peek("If-None-Match"), []byte(a.etag)) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return true
	}
	ctx.SetContentType(a.contentType)
	if a.gzipped != nil && ctx.Request.Header.HasAcceptEncoding("gzip") {
		h.Set("Content-Encoding", "gzip")
		ctx.Response.SetBodyRaw(a.gzipped)
		return true
	}
	ctx.Response.SetBodyRaw(a.plain)
	return true
}
