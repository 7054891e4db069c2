package stub

import (
	"encoding/json"
	"fmt"
	"hash/crc64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// reply is the answering of one request.
type reply struct {
	*conn
	req      *request
	ex       *Exchange
	keep     bool // the connection goes on afterwards
	complete bool
	bare     bool // without chunk framing: HTTP/1.0 or until-end
	chunk    []byte
	timer    *time.Timer
}

// serve answers by route.
func (x *reply) serve() {
	fault, err := x.fault()
	if err != nil {
		x.refuse(http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	switch fault.Kind {
	case Hang:
		<-x.gone
		return
	case Close:
		x.shut()
		return
	case Reset:
		x.reset()
		return
	case Status:
		x.refuse(fault.N, "unavailable_error", "Loading model")
		return
	}
	path, _, _ := strings.Cut(x.req.RequestURI, "?")
	switch x.req.Method {
	case http.MethodPost:
		x.post(path, fault)
	case http.MethodGet, http.MethodHead:
		x.get(path)
	default:
		x.refuse(http.StatusNotFound, "not_found_error", "File Not Found")
	}
}

// fault is the request's own, or the server's.
func (x *reply) fault() (Fault, error) {
	if h := x.req.Header.Get("X-Stub-Fault"); h != "" {
		return ParseFault(h)
	}
	return x.srv.cfg.Fault, nil
}

func (x *reply) get(path string) {
	cfg := &x.srv.cfg
	switch path {
	case "/health":
		x.json(200, map[string]any{"status": "ok"})
	case "/v1/models":
		x.json(200, map[string]any{"object": "list", "data": []any{map[string]any{
			"id": Model, "object": "model", "created": x.req.arrived.Unix(), "owned_by": "llamacpp",
			"meta": map[string]any{"n_ctx": cfg.Context, "n_ctx_train": cfg.Context, "n_vocab": 7225, "ftype": "none"},
		}}})
	case "/props":
		x.json(200, map[string]any{
			"default_generation_settings": map[string]any{"n_ctx": cfg.Context}, "total_slots": cfg.Slots,
			"model_alias": Model, "model_path": Model, "model_ftype": "none", "build_info": "stub", "chat_template": chatTemplate,
		})
	case "/slots":
		busy, tasks := x.srv.slots.state()
		list := make([]any, len(busy))
		for i := range busy {
			list[i] = map[string]any{
				"id": i, "n_ctx": cfg.Context, "speculative": false, "is_processing": busy[i], "id_task": tasks[i],
			}
		}
		x.json(200, list)
	default:
		x.refuse(http.StatusNotFound, "not_found_error", "File Not Found")
	}
}

const chatTemplate = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"

func (x *reply) post(path string, fault Fault) {
	d, known := dialects[path]
	if !known && path != "/tokenize" && path != "/apply-template" {
		x.refuse(http.StatusNotFound, "not_found_error", "File Not Found")
		return
	}
	var p params
	if err := json.Unmarshal(x.req.body, &p); err != nil {
		x.refuse(http.StatusBadRequest, "invalid_request_error", "[json.exception.parse_error.101] "+err.Error())
		return
	}
	switch path {
	case "/tokenize":
		tokens := make([]int, countTokens(p.Content))
		for i := range tokens {
			for _, c := range []byte(p.Content[4*i : min(4*i+4, len(p.Content))]) {
				tokens[i] = tokens[i]*31 + int(c)
			}
			tokens[i] %= 7225
		}
		if !p.Pieces {
			x.json(200, map[string]any{"tokens": tokens})
			return
		}
		list := make([]any, len(tokens))
		for i, id := range tokens {
			list[i] = map[string]any{"id": id, "piece": p.Content[4*i : min(4*i+4, len(p.Content))]}
		}
		x.json(200, map[string]any{"tokens": list})
	case "/apply-template":
		x.json(200, map[string]any{"prompt": p.prompt()})
	default:
		x.generate(d, &p, fault)
	}
}

// json writes a whole reply.
func (x *reply) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // maps of strings and numbers
		panic(err)
	}
	if x.req.Method == http.MethodHead {
		x.head(status, jsonHead(len(body)), nil)
	} else {
		x.head(status, jsonHead(len(body)), body)
	}
	x.complete = true
}

func jsonHead(n int) string {
	return "Content-Type: application/json; charset=utf-8\r\nContent-Length: " + strconv.Itoa(n) + "\r\n"
}

// refuse writes an error. As with llama-server, the connection is closed from status 400 on.
func (x *reply) refuse(status int, kind, message string) {
	x.keep = x.keep && status < 400
	x.json(status, map[string]any{"error": map[string]any{"code": status, "message": message, "type": kind}})
}

// head writes the reply's head and body in one write.
func (x *reply) head(status int, fields string, body []byte) {
	connection := "Connection: close\r\n"
	if x.keep {
		connection = fmt.Sprintf("Keep-Alive: timeout=%d, max=%d\r\n", int(x.srv.cfg.KeepAlive.Seconds()), x.srv.cfg.KeepAliveMax)
	}
	msg := fmt.Appendf(make([]byte, 0, 256+len(body)), "HTTP/1.1 %d %s\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: %s\r\n%s%s\r\n",
		status, http.StatusText(status), x.req.Header.Get("Origin"), fields, connection)
	x.write(append(msg, body...))
}

// write is one write call. A failure ends the connection's reader.
func (x *reply) write(p []byte) (at time.Time) {
	at = time.Now()
	if x.srv.cfg.Record {
		x.srv.mu.Lock()
		x.ex.Writes++
		x.ex.WireBytes += int64(len(p))
		x.ex.WireSum = crc64.Update(x.ex.WireSum, crcTable, p)
		x.srv.mu.Unlock()
	}
	_, _ = x.Write(p)
	return at
}

// preciseLast is how much of a wait Config.PreciseSleep sleeps.
const preciseLast = 2 * time.Millisecond

// sleepUntil waits until t. It returns false as soon as gone or the Server is closed.
func (x *reply) sleepUntil(t time.Time, gone <-chan struct{}) bool {
	if precise := x.srv.cfg.PreciseSleep; precise != nil {
		t = t.Add(-preciseLast)
		defer func() { precise(time.Until(t.Add(preciseLast))) }()
	}
	d := time.Until(t)
	if d <= 0 {
		select {
		case <-gone:
			return false
		default:
			return true
		}
	}
	if x.timer == nil {
		x.timer = time.NewTimer(d)
	} else {
		x.timer.Reset(d)
	}
	select {
	case <-x.timer.C:
		return true
	case <-gone:
	case <-x.srv.closing:
	}
	x.timer.Stop()
	return false
}
