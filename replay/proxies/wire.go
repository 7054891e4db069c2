package proxies

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// What goes over the wire looks like llama-server's: a chat completion, streamed or not. A streamed
// reply's schedule stands in the request's text, which every proxy passes on, and each event's content is the moment of
// its write.
const (
	chatPath = "/v1/chat/completions"
	tail     = `"created":1763900000,"id":"chatcmpl-Vh2cQ0yV7bQ4mPz1nT8sRk5wLx3jDf6g","model":"bench.gguf","system_fingerprint":"b11669-0000000","object":"chat.completion.chunk"`
	// stampMark stands before a stamp: 19 digits of CLOCK_MONOTONIC in nanoseconds, a dot, 6 digits of the
	// event's number within its stream.
	stampMark   = `"content":"@`
	stampDigits = 19
	seqDigits   = 6
)

// prompt is of ordinary size for a chat: a few hundred bytes.
const prompt = "Explain in two sentences why a proxy that measures has to be as fast as one that does not, and name the three places where time is lost on the way of a streamed reply from a server to its client."

// streamRequest asks for a stream.
func streamRequest(host, prefix string, s schedule) []byte {
	body := fmt.Sprintf(`{"model":"bench.gguf","stream":true,"max_tokens":%d,"messages":[{"role":"user","content":"%s %sfirst_us=%d,gap_us=%d,quick=%d,n=%d%s"}]}`,
		s.n, prompt, planMark, s.first/1000, s.gap/1000, s.quick, s.n, planEnd)
	return request(host, prefix+chatPath, body)
}

// A schedule stands between planMark and planEnd.
const planMark, planEnd = "Schedule: ", "."

// shortRequest asks for an unstreamed reply, which comes at once.
func shortRequest(host, prefix string) []byte {
	return request(host, prefix+chatPath, `{"model":"bench.gguf","max_tokens":16,"messages":[{"role":"user","content":"`+prompt+`"}]}`)
}

func request(host, target, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: wattline-bench/1\r\nAccept: */*\r\nContent-Type: application/json\r\nAuthorization: Bearer none\r\nContent-Length: %d\r\n\r\n%s",
		target, host, len(body), body)
}

// schedule is a stream's: n events, the first after first, so many quick ones quickGap apart and the others
// gap, in nanoseconds.
type schedule struct {
	first, gap int64
	quick, n   int
}

const quickGap = 20e6

// parseSchedule reads a request's body. A stream of no events is no stream: the reply is unstreamed.
func parseSchedule(body []byte) (s schedule) {
	_, text, _ := bytes.Cut(body, []byte(planMark))
	text, _, _ = bytes.Cut(text, []byte(planEnd))
	for pair := range strings.SplitSeq(string(text), ",") {
		k, v, _ := strings.Cut(pair, "=")
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			continue
		}
		switch k {
		case "first_us":
			s.first = n * 1000
		case "gap_us":
			s.gap = n * 1000
		case "quick":
			s.quick = int(n)
		case "n":
			s.n = int(n)
		}
	}
	return s
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
	roleEvent  = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],` + tail + "}\n\n"
	tokenHead  = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{` + stampMark
	tokenTail  = `"}}],` + tail + "}\n\n"
)

// tokenEvent is one event with room for its stamp at stampAt.
var tokenEvent, stampAt = func() ([]byte, int) {
	e := tokenHead + strings.Repeat("0", stampDigits) + "." + strings.Repeat("0", seqDigits) + tokenTail
	c := chunk(e)
	return c, strings.Index(string(c), stampMark) + len(stampMark)
}()

// firstEvent is the role-only event and a token's, in one write.
var firstEvent = append(chunk(roleEvent), tokenEvent...)

// chunk frames as llama-server does: size, data and CRLF in one write.
func chunk(data string) []byte { return fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data) }

// streamEnd is everything behind the last token of a stream of n.
func streamEnd(s schedule) []byte {
	ms := float64(s.gap) / 1e6 * float64(s.n-1)
	final := fmt.Sprintf(`data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],%s,"timings":{"cache_n":0,"prompt_n":48,"prompt_ms":%.3f,"prompt_per_token_ms":0.1,"prompt_per_second":9600.0,"predicted_n":%d,"predicted_ms":%.3f,"predicted_per_token_ms":1.0,"predicted_per_second":1000.0}}`+"\n\n",
		tail, float64(s.first)/1e6, s.n, ms)
	out := chunk(final)
	out = append(out, chunk("data: [DONE]\n\n")...)
	return append(out, "0\r\n\r\n"...)
}

// shortBody is the unstreamed reply, shortReply the whole of it.
const shortBody = `{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"Because every byte passes through it: at the accept, at the first token and between two tokens."}}],"created":1763900000,"model":"bench.gguf","system_fingerprint":"b11669-0000000","object":"chat.completion","usage":{"completion_tokens":16,"prompt_tokens":48,"total_tokens":64,"prompt_tokens_details":{"cached_tokens":0}},"id":"chatcmpl-Vh2cQ0yV7bQ4mPz1nT8sRk5wLx3jDf6g","timings":{"cache_n":0,"prompt_n":48,"prompt_ms":0.01,"prompt_per_token_ms":0.1,"prompt_per_second":9600.0,"predicted_n":16,"predicted_ms":0.01,"predicted_per_token_ms":1.0,"predicted_per_second":1000.0}}`

var shortReply, modelsReply = unstreamed(shortBody), unstreamed(modelsBody)

// modelsBody answers /v1/models: some proxies route by what is listed there.
const modelsBody = `{"object":"list","data":[{"id":"bench.gguf","object":"model","created":1763900000,"owned_by":"llamacpp"}]}`

func unstreamed(body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nKeep-Alive: timeout=60, max=1000000\r\n\r\n%s", len(body), body)
}

// putDigits writes v in decimal over the whole of dst.
func putDigits(dst []byte, v int64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}

// digits reads what putDigits wrote.
func digits(p []byte) (v int64, ok bool) {
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	return v, true
}
