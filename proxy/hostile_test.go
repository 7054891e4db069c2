package proxy

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"wattline/meter"
)

// hostile is a request and what each side must see of it.
type hostile struct {
	class  string // its line in FRAMING.md
	raw    string
	status int    // that wattline answers; the server then receives nothing
	sent   string // with status 0: what the server receives
	closes bool   // with status 0: nothing behind it is read
}

// hostiles generates the list from the grammar of RFC 9112: values, spellings, places and separators that another
// parser may read in another way, and the odd ones that every parser reads in the same way.
func hostiles() []hostile {
	return slices.Concat(badLengths(), badCodings(), badPairs(), badFields(), badLines(), badRequestLines(), badChunked(),
		oddLengths(), oddRequestLines(), oddConnections(), oddChunked())
}

// spellings of a field's name.
func spellings(name string) []string {
	return []string{name, strings.ToLower(name), strings.ToUpper(name)}
}

// posts makes requests with these header lines before and behind Host.
func posts(class string, status int, lines, body string) []hostile {
	return []hostile{
		{class: class, raw: "POST /h HTTP/1.1\r\n" + lines + "Host: x\r\n\r\n" + body, status: status},
		{class: class, raw: "POST /h HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" + body, status: status},
	}
}

const chunkedBody = "2\r\nhi\r\n0\r\n\r\n"

func badLengths() (all []hostile) {
	for _, v := range []string{
		"+2", "-2", "--2", "0x2", "2.0", "2e0", "2,2", "2, 2", "2;", "2 2", "'2'", `"2"`, "2_0", "\u0662", "\uff12", "2h", "", " ", "two", "NaN", "2-", "2/2",
		"1000000000000000000", "18446744073709551618", strings.Repeat("9", 40), strings.Repeat("0", 20) + "x", "0x" + strings.Repeat("0", 20) + "2", "-0", "+0",
	} {
		for _, name := range spellings("Content-Length") {
			all = append(all, posts("a length that is not one number", 400, name+": "+v+"\r\n", "hi")...)
		}
	}
	for _, pair := range [][2]string{{"2", "3"}, {"2", "02"}, {"02", "2"}, {"0", "2"}, {"2", "0"}, {"2", "+2"}, {"2", ""}} {
		for _, name := range spellings("Content-Length") {
			all = append(all, posts("lengths that differ", 400, "Content-Length: "+pair[0]+"\r\n"+name+": "+pair[1]+"\r\n", "hi")...)
		}
	}
	return all
}

func badCodings() (all []hostile) {
	for _, v := range []string{
		"identity", "gzip", "deflate", "compress", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked, identity", "identity, chunked", `"chunked"`, "'chunked'", "",
		"chunked;q=1", "chunked;a=b", "x chunked", "xchunked", "chunkedx", "chunked,", ", chunked", "chun ked", "cow", "chunked trailers", "c\u04bbunked", "chunked\xa0", "\xa0chunked",
	} {
		for _, name := range spellings("Transfer-Encoding") {
			all = append(all, posts("a transfer coding other than chunked", 400, name+": "+v+"\r\n", chunkedBody)...)
		}
		all = append(all, posts("a transfer coding other than chunked", 400, "Transfer-Encoding: "+v+"\r\nContent-Length: 12\r\n", chunkedBody)...)
	}
	for _, name := range spellings("Transfer-Encoding") {
		all = append(all, posts("chunked twice", 400, "Transfer-Encoding: chunked\r\n"+name+": chunked\r\n", chunkedBody)...)
	}
	return all
}

func badPairs() (all []hostile) {
	for _, length := range []string{"1", "2", "12", "012", "000000000000000000000012", "0, 0", "+0", "0x0", "0 0", "0;"} {
		for _, name := range spellings("Transfer-Encoding") {
			te, cl := name+": chunked\r\n", "Content-Length: "+length+"\r\n"
			all = append(all, posts("a length beside chunked", 400, te+cl, chunkedBody)...)
			all = append(all, posts("a length beside chunked", 400, cl+te, chunkedBody)...)
		}
		all = append(all, hostile{class: "a length beside chunked", status: 400, raw: "POST /h HTTP/1.0\r\nContent-Length: " + length + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunkedBody})
	}
	for _, pair := range [][2]string{{"0", "1"}, {"0", "00"}, {"00", "0"}, {"1", "0"}} {
		lengths := "Content-Length: " + pair[0] + "\r\nContent-Length: " + pair[1] + "\r\n"
		all = append(all, posts("lengths that differ", 400, lengths+"Transfer-Encoding: chunked\r\n", chunkedBody)...)
	}
	for _, hosts := range []string{"Host: x\r\n", "host: y\r\n", "HOST:\r\n"} {
		all = append(all, posts("two hosts", 400, hosts, "")...)
	}
	return all
}

func badFields() (all []hostile) {
	for _, c := range controls() {
		for _, line := range []string{"X" + c + "A: b", "X-A: b" + c + "c", "Transfer-Encoding:" + c + "chunked", "Transfer-Encoding" + c + ": chunked", "Content-Length: 2" + c} {
			if c == "\t" && !strings.Contains(line, c+":") && !strings.HasPrefix(line, "X\t") {
				continue // a tab is white space there
			}
			all = append(all, posts("a control character", 400, line+"\r\n", "hi")...)
		}
	}
	for _, c := range " (),/;<=>?@[\\]{}\"\u00e9" {
		all = append(all, posts("a name that is no token", 400, "X"+string(c)+"A: b\r\n", "")...)
		all = append(all, posts("a name that is no token", 400, "Content-Length"+string(c)+": 2\r\n", "hi")...)
	}
	all = append(all, posts("a name that is no token", 400, ": b\r\n", "")...)
	return append(all, posts("a name that is no token", 400, "nonsense\r\n", "")...)
}

// controls are the control characters, except those that end a line.
func controls() (all []string) {
	for c := range 0x20 {
		if c != '\r' && c != '\n' {
			all = append(all, string(rune(c)))
		}
	}
	return append(all, "\x7f")
}

func badLines() (all []hostile) {
	for _, end := range []string{"\n", "\r", "\r\r\n", "\n\r", "\n\n", "\r \n"} {
		for _, hidden := range []string{"X-B: c", "Transfer-Encoding: chunked", "Content-Length: 2"} {
			all = append(all, posts("a line that does not end in CRLF", 400, "X-A: b"+end+hidden+"\r\n", "hi")...)
		}
		all = append(all, hostile{class: "a line that does not end in CRLF", status: 400, raw: "GET /h HTTP/1.1" + end + "Host: x\r\n\r\n"})
	}
	for _, fold := range []string{" ", "\t", "  ", " \t"} {
		for _, hidden := range []string{"c", "Transfer-Encoding: chunked", "Content-Length: 2"} {
			all = append(all, posts("a folded line", 400, "X-A: b\r\n"+fold+hidden+"\r\n", "hi")...)
		}
		all = append(all, hostile{class: "a folded line", status: 400, raw: "GET /h HTTP/1.1\r\n" + fold + "Host: x\r\n\r\n"})
	}
	return append(all, hostile{class: "more than 1000 header lines", status: 431, raw: "GET /h HTTP/1.1\r\n" + strings.Repeat("a:\r\n", 1001) + "\r\n"})
}

func badRequestLines() (all []hostile) {
	add := func(class string, status int, line string) {
		all = append(all, hostile{class: class, status: status, raw: line + "\r\nHost: x\r\n\r\n"})
	}
	for _, c := range controls() {
		add("a separator or character that is not allowed in the request line", 400, "GET"+c+"/h HTTP/1.1")
		add("a separator or character that is not allowed in the request line", 400, "GET /h"+c+"HTTP/1.1")
		add("a separator or character that is not allowed in the request line", 400, "GET /"+c+" HTTP/1.1")
	}
	for _, c := range "(),/:;<=>?@[\\]{}\"\u00e9\u00a0" {
		add("a separator or character that is not allowed in the request line", 400, "G"+string(c)+"T /h HTTP/1.1")
	}
	for _, line := range []string{"GET", "GET /h", "GET HTTP/1.1", "GET  HTTP/1.1", "GET / h HTTP/1.1", "GET /h HTTP/1.1 x", "GET /h HTTP/1.1 HTTP/1.1", "GET /h HTTP /1.1", "GET /h HTTP/ 1.1"} {
		add("more or fewer than three words in the request line", 400, line)
	}
	for _, v := range []string{"HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/11.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1,1", "http/1.1", "Http/1.1", "HTTPS/1.1", "HTTP/1.1x", "xHTTP/1.1", "ICY", "HTTP\\1.1", "HTTP/1.\u0661"} {
		add("a version other than 1.0 and 1.1", 505, "GET /h "+v)
	}
	return all
}

func badChunked() (all []hostile) {
	const head = "POST /h HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, size := range []string{
		"G", "-2", "+2", "0x2", "0X2", "x2", "2h", " 2", "\t2", "2 2", "2,2", "2.", "2_", "", ";a", "\"2\"", "2\x00", "2\v", "2\x7f", "\uff12", "2;a\x00b", "2;a\x01", "2;\v", "1000000000000000",
		"1" + strings.Repeat("0", 16), strings.Repeat("f", 17), strings.Repeat("0", 20) + "g", strings.Repeat("0", 20) + "1000000000000002", "2;" + strings.Repeat("x", 17<<10),
	} {
		all = append(all, hostile{class: "a chunk size that is not one number", status: 400, raw: head + size + "\r\nhi\r\n0\r\n\r\n"})
	}
	for _, end := range []string{"\n", "\r", "\r\r\n", "\n\r\n", "\rx"} {
		all = append(all, hostile{class: "a line that does not end in CRLF", status: 400, raw: head + "2" + end + "hi\r\n0\r\n\r\n"})
		all = append(all, hostile{class: "a line that does not end in CRLF", status: 400, raw: head + "2;a=b" + end + "hi\r\n0\r\n\r\n"})
	}
	return all
}

func oddLengths() (all []hostile) {
	for _, name := range spellings("Content-Length") {
		line := name + ": 0\r\n"
		for _, lines := range []string{line + "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n" + line, line + "Transfer-Encoding: chunked\r\n" + line, "Transfer-Encoding: chunked\r\n" + name + ": 000\r\n"} {
			all = append(all, hostile{
				class: "Content-Length: 0 beside chunked", raw: "POST /h HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" + chunkedBody, closes: true,
				sent: "POST /h HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunkedBody,
			})
		}
		for _, n := range []int{2, 3, 20} {
			all = append(all, hostile{
				class: "the same Content-Length several times", raw: "POST /h HTTP/1.1\r\nHost: x\r\n" + strings.Repeat(name+": 2\r\n", n) + "\r\nhi",
				sent: "POST /h HTTP/1.1\r\nHost: x\r\n" + name + ": 2\r\n\r\nhi",
			})
		}
		for _, n := range []int{1, 17, 18, 19, 40, 4000} {
			all = append(all, hostile{
				class: "a Content-Length with leading zeros", raw: "POST /h HTTP/1.1\r\n" + name + ": " + strings.Repeat("0", n) + "2\r\nHost: x\r\n\r\nhi",
				sent: "POST /h HTTP/1.1\r\n" + name + ": 2\r\nHost: x\r\n\r\nhi",
			})
		}
	}
	return all
}

func oddRequestLines() (all []hostile) {
	for i := 1; i < 256; i *= 2 {
		a, b, c, d := strings.Repeat(" ", i&1), strings.Repeat(" ", 1+i&6), strings.Repeat(" ", 1+i&24), strings.Repeat(" ", i&96)
		all = append(all, hostile{
			class: "more spaces in the request line", raw: a + "GET" + b + "/h" + c + "HTTP/1.1" + d + "\r\nHost: x\r\n\r\n", sent: "GET /h HTTP/1.1\r\nHost: x\r\n\r\n",
		})
	}
	for _, more := range []string{"", "Connection: keep-alive\r\n", "Connection: close\r\n", "Content-Length: 0\r\n"} {
		all = append(all, hostile{
			class: "HTTP/1.0 with chunks", raw: "POST /h HTTP/1.0\r\nHost: x\r\n" + more + "Transfer-Encoding: chunked\r\n\r\n" + chunkedBody, closes: true,
			sent: "POST /h HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunkedBody,
		})
	}
	return append(all, hostile{
		class: "HTTP/1.0 with chunks", raw: "POST /h HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunkedBody, closes: true,
		sent: "POST /h HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n" + chunkedBody,
	})
}

func oddConnections() (all []hostile) {
	for _, n := range []int{7, 8, 9, 64, 65, 100, 1000, 20000} {
		all = append(all, hostile{
			class: "many names in Connection", raw: "GET /h HTTP/1.1\r\nHost: x\r\nx-HOP: 1\r\nConnection: " + strings.Repeat("n,", n) + "X-Hop, Content-Length\r\nN: 2\r\nX-Stay: 1\r\n\r\n",
			sent: "GET /h HTTP/1.1\r\nHost: x\r\nX-Stay: 1\r\n\r\n",
		})
	}
	return all
}

func oddChunked() (all []hostile) {
	const head = "POST /h HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, size := range []string{strings.Repeat("0", 14) + "2", strings.Repeat("0", 16) + "2", strings.Repeat("0", 1000) + "2", "2;" + strings.Repeat("x", 5000), "2;" + strings.Repeat("x", 16000), "02 \t", "2;a=\"b\"", "2;\xff"} {
		raw := head + size + "\r\nhi\r\n" + strings.Repeat("0", 20) + "\r\n\r\n"
		all = append(all, hostile{class: "long chunk sizes and extensions", raw: raw, sent: raw})
	}
	return all
}

// TestHostileRequests: what two parsers could read in two ways is answered with an error, and no byte of it reaches
// the server; what is only odd reaches it in the usual form. Nothing that is hidden in either is ever answered.
func TestHostileRequests(t *testing.T) {
	page, err := os.ReadFile("FRAMING.md")
	if err != nil {
		t.Fatal(err)
	}
	all := hostiles()
	if len(all) < 500 {
		t.Errorf("%d requests", len(all))
	}
	up := startScripted(t, listen(t))
	f := startFront(t, up.url())
	const hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	refused, classes := 0, map[string]int{}
	for _, c := range all {
		classes[c.class]++
		nc := dial(t, f.addr)
		send(t, nc, c.raw+hidden)
		br := bufio.NewReader(nc)
		method, _, _ := strings.Cut(strings.TrimLeft(c.raw, " "), " ")
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s, %.80q: %v", c.class, c.raw, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		want := c.status
		if want == 0 {
			want = http.StatusOK
		} else {
			refused++
		}
		if closes := c.closes || c.status != 0; resp.StatusCode != want || resp.Close != closes {
			t.Errorf("%s, %.80q: %s, close %v", c.class, c.raw, resp.Status, resp.Close)
		} else if closes {
			if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
				t.Errorf("%s, %.80q: behind the reply: %.80q, %v", c.class, c.raw, rest, err)
			}
		} else if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s, %.80q: the request behind it: %v", c.class, c.raw, err)
		}
		_ = nc.Close()
		sent := c.sent
		if c.status == 0 && !c.closes {
			sent += hidden
		}
		if got := up.received(); got != sent {
			t.Errorf("%s, %.80q: the server received %.120q, want %.120q", c.class, c.raw, got, sent)
		}
	}
	for class := range classes {
		if !strings.Contains(string(page), "| "+class+" |") {
			t.Errorf("FRAMING.md does not list %q", class)
		}
	}
	rows := f.rows.awaitN(t, refused)
	for _, rec := range rows {
		if rec.Outcome == meter.Rejected && (rec.Error == "" || !rec.Status.Valid) {
			t.Errorf("row: %q, %+v", rec.Error, rec.Status)
		}
	}
	t.Logf("%d requests of %d classes, %d of them refused", len(all), len(classes), refused)
}
