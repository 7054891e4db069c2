package proxy

import (
	"slices"
	"strings"
	"testing"
)

func conformances() []conformance {
	return slices.Concat(methodCases(), framingCases(), headerCases(), connectionCases(), uploadCases())
}

func simple(name, method, path, more string) conformance {
	return conformance{name: name, say: []string{method + " " + path + " HTTP/1.1\r\nHost: llama\r\n" + more + "\r\n"}, replies: []string{method}}
}

func methodCases() []conformance {
	var cs []conformance
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW", "M-SEARCH"} {
		cs = append(cs, simple("method "+m, m, "/echo", ""))
	}
	cs = append(cs,
		conformance{
			name: "HEAD keeps its Content-Length", say: simple("", "HEAD", "/echo", "").say, replies: []string{"HEAD"},
			tested: func(t *testing.T, got string) {
				if !strings.Contains(got, "Content-Length: 1234\r\n") {
					t.Errorf("received %q", got)
				}
			},
		},
		simple("OPTIONS for CORS", "OPTIONS", "/cors", "Origin: http://page\r\nAccess-Control-Request-Method: POST\r\n"),
		simple("OPTIONS *", "OPTIONS", "*", ""),
		simple("CONNECT", "CONNECT", "llama:8080", ""),
		simple("absolute target", "GET", "http://llama:8080/echo?a=b", ""),
		simple("odd targets", "GET", "/a//b/%2e%2E/%zz;p=1?q=%20+&&x=\xc3\xa9#f", ""),
	)
	return cs
}

func framingCases() []conformance {
	return []conformance{
		simple("chunked reply with odd sizes", "GET", "/chunked", ""),
		simple("trailers of a reply", "GET", "/trailers", "TE: trailers\r\n"),
		simple("empty chunked reply", "GET", "/empty-chunked", ""),
		simple("2 MB reply", "GET", "/bulk", ""),
		simple("gzip", "GET", "/gzip", "Accept-Encoding: gzip\r\n"),
		simple("range", "GET", "/range", "Range: bytes=2-5\r\n"),
		simple("204", "DELETE", "/204", ""),
		simple("304 with a length", "GET", "/304", "If-None-Match: \"x\"\r\n"),
		simple("early hints", "GET", "/hints", ""),
		{name: "reply until the close", say: []string{"GET /until-close HTTP/1.1\r\nHost: llama\r\n\r\n"}, replies: []string{"GET"}, ends: true},
		{name: "HTTP/1.0", say: []string{"GET /until-close HTTP/1.0\r\n\r\n"}, replies: []string{"GET"}, ends: true},
		{name: "HTTP/1.0 kept alive, and a chunked reply", say: []string{"GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"}, replies: []string{"GET"}, ends: true},
		{name: "HTTP/1.0 with a length", say: []string{"POST /echo HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"}, replies: []string{"POST"}, ends: true},
		{name: "HTTP/1.0 in two pieces", say: []string{"POST /echo HTTP/1.0\r\nContent-Le", "ngth: 4\r\n\r\na", "bcd"}, replies: []string{"POST"}, ends: true},
	}
}

func headerCases() []conformance {
	return []conformance{
		simple("no reason", "GET", "/no-reason", ""),
		simple("odd reply headers", "GET", "/odd", ""),
		simple("odd request headers", "GET", "/echo", "x-LOWER-upper: a\r\nACCEPT: */*\r\nEmpty:\r\nEmpty-2: \r\nSpaces:   two  inside   \r\nTab:\ta\r\n"+
			"Cookie: a=1\r\nX-Rep: 1\r\nCookie: b=2\r\nx-rep: 2\r\nX-Rep: 1\r\nObs: caf\xe9\r\n!#$%&'*+-.^_`|~: token\r\nAuthorization: Bearer secret\r\n"),
		simple("60 kB request header", "GET", "/echo", "X-Big: "+strings.Repeat("b", 60000)+"\r\n"),
		simple("600 request headers", "GET", "/echo", strings.Repeat("X-Many: of them\r\n", 600)),
		simple("60 kB reply header", "GET", "/big-head", ""),
		simple("hop-by-hop request headers", "GET", "/echo", "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 300\r\nProxy-Connection: keep-alive\r\nX-Stay: 1\r\n"),
		simple("hop-by-hop reply headers", "GET", "/listed", ""),
		simple("client's forwarding headers", "GET", "/echo", "Via: 1.1 other\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\n"),
	}
}

func connectionCases() []conformance {
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: llama\r\n\r\n" }
	post := "POST /echo HTTP/1.1\r\nHost: llama\r\nContent-Length: 4\r\n\r\nbody"
	return []conformance{
		{
			name: "keep-alive", say: []string{get("/echo?1"), post, get("/odd")}, waits: []string{"", "GET ", "POST body"},
			replies: []string{"GET", "POST", "GET"},
		},
		{
			name: "pipelining", say: []string{get("/echo?1") + post + get("/odd") + post + get("/gzip") + "HEAD /echo HTTP/1.1\r\nHost: llama\r\n\r\n" + get("/echo?2")},
			replies: []string{"GET", "POST", "GET", "POST", "GET", "HEAD", "GET"},
		},
		{
			name: "pipelining in pieces", say: strings.SplitAfter(get("/echo?1")+post+get("/204")+post, "e"),
			replies: []string{"GET", "POST", "GET", "POST"},
		},
		{name: "client asks to close", say: []string{"GET /echo HTTP/1.1\r\nHost: llama\r\nConnection: close\r\n\r\n"}, replies: []string{"GET"}, ends: true},
		{
			name: "upgrade", say: []string{"GET /upgrade HTTP/1.1\r\nHost: llama\r\nConnection: Upgrade\r\nUpgrade: shout\r\nSec-WebSocket-Key: x\r\n\r\n", "hello\n", "and more\n"},
			waits: []string{"", "\r\n\r\n", "HELLO\n"}, replies: []string{"GET"}, tail: "AND MORE\n",
			tested: func(t *testing.T, got string) {
				if !strings.HasSuffix(got, "GOODBYE\n") || !strings.Contains(got, "Connection: Upgrade\r\n") || !strings.Contains(got, "Upgrade: shout\r\n") {
					t.Errorf("received %q", got)
				}
			},
		},
		{
			name: "upgrade with bytes behind the head", say: []string{"GET /upgrade HTTP/1.1\r\nHost: llama\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nat once\n"},
			replies: []string{"GET"}, tail: "AT ONCE\n",
		},
		simple("upgrade that is declined", "GET", "/echo", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"),
	}
}

func uploadCases() []conformance {
	chunks := "5\r\nhello\r\n1;ext=\"x\"\r\n,\r\n0006\r\n world\r\n0\r\n"
	head := func(path, more string) string { return "POST " + path + " HTTP/1.1\r\nHost: llama\r\n" + more + "\r\n" }
	te := "Transfer-Encoding: chunked\r\n"
	return []conformance{
		{name: "sized upload", say: []string{head("/echo", "Content-Length: 11\r\n") + "hello\nworld"}, replies: []string{"POST"}},
		{name: "empty body", say: []string{head("/echo", "Content-Length: 0\r\n")}, replies: []string{"POST"}},
		{name: "sized upload in pieces", say: strings.SplitAfter(head("/echo", "Content-Length: 11\r\n")+"hello\nworld", "o"), replies: []string{"POST"}},
		{name: "1 MB upload", say: []string{head("/echo", "Content-Length: 1048576\r\n"), strings.Repeat("x", 1<<20)}, replies: []string{"POST"}},
		{name: "chunked upload", say: []string{head("/echo", te) + chunks + "\r\n"}, replies: []string{"POST"}},
		{name: "chunked upload byte by byte", say: strings.Split(head("/echo", te)+chunks+"\r\n", ""), replies: []string{"POST"}},
		{name: "trailers of an upload", say: []string{head("/echo", te+"Trailer: X-Sum\r\n") + chunks + "X-Sum: 1\r\nx-more: a:b\r\n\r\n"}, replies: []string{"POST"}},
		{name: "chunked GET", say: []string{"GET /echo HTTP/1.1\r\nHost: llama\r\n" + te + "\r\n" + chunks + "\r\n"}, replies: []string{"GET"}},
		{
			name: "100-continue", say: []string{head("/echo", "Content-Length: 4\r\nExpect: 100-continue\r\n"), "body"},
			waits: []string{"", "100 Continue\r\n\r\n"}, replies: []string{"POST"},
		},
		{
			name: "100-continue, chunked", say: []string{head("/echo", te+"Expect: 100-continue\r\n"), chunks + "\r\n"},
			waits: []string{"", "100 Continue\r\n\r\n"}, replies: []string{"POST"},
		},
		{
			name: "100-continue refused", say: []string{head("/early-401", "Content-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n")},
			replies: []string{"POST"}, ends: true,
			tested: func(t *testing.T, got string) {
				if !strings.HasPrefix(got, "HTTP/1.1 401 ") {
					t.Errorf("received %q", got)
				}
			},
		},
		{name: "early 401 while a sized upload runs", say: []string{head("/early-401-lingers", "Content-Length: 30000\r\n"), strings.Repeat("x", 10000)}, replies: []string{"POST"}, early: true},
		{name: "early 413 while a sized upload runs", say: []string{head("/early-413", "Content-Length: 30000\r\n"), strings.Repeat("x", 10000)}, replies: []string{"POST"}, early: true},
		{name: "early 413 while a chunked upload runs", say: []string{head("/early-413", te), "2710\r\n" + strings.Repeat("x", 10000) + "\r\n"}, replies: []string{"POST"}, early: true},
		{name: "100-continue that is not awaited", say: []string{head("/echo", "Content-Length: 4\r\nExpect: 100-continue\r\n") + "body"}, replies: []string{"POST"}},
		{name: "uploads behind each other", say: []string{head("/echo", te) + chunks + "\r\n" + head("/echo", "Content-Length: 2\r\n") + "hi" + head("/echo", te) + "0\r\n\r\n"}, replies: []string{"POST", "POST", "POST"}},
		{name: "500 kB of small chunks", say: []string{head("/echo", te) + strings.Repeat("1\r\na\r\n", 50000), strings.Repeat("2\r\nbc\r\n", 50000) + "0\r\n\r\n"}, replies: []string{"POST"}},
	}
}
