package stub

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// params are the fields that are read of a request's body.
type params struct {
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Prompt  json.RawMessage `json:"prompt"`
	Content string          `json:"content"`
	Pieces  bool            `json:"with_pieces"`
	Stream  bool            `json:"stream"`

	MaxTokens           *int `json:"max_tokens"`
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	NPredict            *int `json:"n_predict"`

	CachePrompt   *bool `json:"cache_prompt"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// tokens is how many to generate, and whether the request set a limit.
func (a *params) tokens(unlimited int) (n int, limited bool) {
	for _, p := range []*int{a.MaxTokens, a.MaxCompletionTokens, a.NPredict} {
		if p != nil && *p >= 0 {
			return *p, true
		}
	}
	return unlimited, false
}

// prompt is the text that is tokenised: the messages in the chat template, or the prompt itself.
func (a *params) prompt() string {
	if a.Messages == nil {
		var text string
		var mixed []any // texts and tokens
		switch {
		case json.Unmarshal(a.Prompt, &text) == nil:
			return text
		case json.Unmarshal(a.Prompt, &mixed) != nil:
			return string(a.Prompt)
		}
		for _, part := range mixed {
			if s, ok := part.(string); ok {
				text += s
			} else {
				text += fmt.Sprintf("%04v", part)[:4]
			}
		}
		return text
	}
	var b strings.Builder
	for _, m := range a.Messages {
		text := string(m.Content)
		var plain string
		if json.Unmarshal(m.Content, &plain) == nil {
			text = plain
		}
		b.WriteString("<|" + m.Role + "|>" + text)
	}
	return b.String() + "<|assistant|>"
}

// counts are the figures at a reply's end. The times are measured.
type counts struct {
	prompt, cached, output int
	slot                   int
	promptMs, predictedMs  float64
	finish                 string // length or stop
}

// dialect writes one route's JSON.
type dialect struct {
	token func(dst []byte, r *replyInfo, text []byte, n int) []byte // the n-th token's event, from 1
	final func(dst []byte, r *replyInfo, c *counts) []byte          // a stream's last event
	whole func(r *replyInfo, c *counts, text []byte) []byte         // an unstreamed reply's body
	done  bool                                                      // a stream ends with data: [DONE]
}

// replyInfo is the same in all events of a reply.
type replyInfo struct {
	id      string
	created int64
	usage   bool
	prompt  int    // tokens
	tail    string // the end of a chat event
}

//nolint:gochecknoglobals // a constant table
var dialects = map[string]*dialect{
	"/v1/chat/completions": {token: chatToken, final: chatFinal, whole: chatWhole, done: true},
	"/v1/completions":      {token: textToken, final: textFinal, whole: textWhole, done: true},
	"/completion":          {token: nativeToken, final: nativeFinal, whole: nativeWhole},
}

func (c *counts) timings() string {
	perToken := func(ms float64, n int) (string, string) {
		if n < 1 || ms <= 0 {
			return "0.0", "0.0"
		}
		return float(ms / float64(n)), float(1000 * float64(n) / ms)
	}
	evaluated := c.prompt - c.cached
	pt, ps := perToken(c.promptMs, evaluated)
	dt, ds := perToken(c.predictedMs, max(c.output-1, 1))
	return fmt.Sprintf(`"timings":{"cache_n":%d,"prompt_n":%d,"prompt_ms":%s,"prompt_per_token_ms":%s,"prompt_per_second":%s,"predicted_n":%d,"predicted_ms":%s,"predicted_per_token_ms":%s,"predicted_per_second":%s}`,
		c.cached, evaluated, float(c.promptMs), pt, ps, c.output, float(c.predictedMs), dt, ds)
}

func (c *counts) usage() string {
	return fmt.Sprintf(`"usage":{"completion_tokens":%d,"prompt_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}`,
		c.output, c.prompt, c.prompt+c.output, c.cached)
}

func float(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func chatEvent(dst []byte, r *replyInfo, finish, delta string) []byte {
	dst = append(dst, `data: {"choices":[{"finish_reason":`...)
	dst = append(dst, finish...)
	dst = append(dst, `,"index":0,"delta":`...)
	dst = append(dst, delta...)
	dst = append(dst, `}],`...)
	return append(dst, r.tail...)
}

func chatToken(dst []byte, r *replyInfo, text []byte, n int) []byte {
	if n == 1 {
		dst = chatEvent(dst, r, "null", `{"role":"assistant","content":null}`)
		dst = append(dst, "}\n\n"...)
	}
	dst = append(dst, `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"`...)
	dst = append(dst, text...)
	dst = append(dst, `"}}],`...)
	dst = append(dst, r.tail...)
	return append(dst, "}\n\n"...)
}

func chatFinal(dst []byte, r *replyInfo, c *counts) []byte {
	dst = chatEvent(dst, r, strconv.Quote(c.finish), "{}")
	if !r.usage {
		return fmt.Appendf(dst, ",%s}\n\n", c.timings())
	}
	return fmt.Appendf(dst, "}\n\ndata: {\"choices\":[],%s,%s,%s}\n\n", r.tail, c.usage(), c.timings())
}

func chatWhole(r *replyInfo, c *counts, text []byte) []byte {
	return fmt.Appendf(nil, `{"choices":[{"finish_reason":%q,"index":0,"message":{"role":"assistant","content":"%s"}}],"created":%d,"model":"%s","system_fingerprint":"stub","object":"chat.completion",%s,"id":"chatcmpl-%s",%s}`,
		c.finish, text, r.created, Model, c.usage(), r.id, c.timings())
}

func textEvent(dst []byte, r *replyInfo, text []byte, finish string) []byte {
	dst = append(dst, `data: {"choices":[{"text":"`...)
	dst = append(dst, text...)
	dst = append(dst, `","index":0,"logprobs":null,"finish_reason":`...)
	dst = append(dst, finish...)
	return fmt.Appendf(dst, `}],"created":%d,"model":"%s","system_fingerprint":"stub","object":"text_completion"`, r.created, Model)
}

func textToken(dst []byte, r *replyInfo, text []byte, _ int) []byte {
	return fmt.Appendf(textEvent(dst, r, text, "null"), ",\"id\":\"chatcmpl-%s\"}\n\n", r.id)
}

func textFinal(dst []byte, r *replyInfo, c *counts) []byte {
	return fmt.Appendf(textEvent(dst, r, nil, strconv.Quote(c.finish)), ",%s,\"id\":\"chatcmpl-%s\",%s}\n\n", c.usage(), r.id, c.timings())
}

func textWhole(r *replyInfo, c *counts, text []byte) []byte {
	return fmt.Appendf(nil, `{"choices":[{"text":"%s","index":0,"logprobs":null,"finish_reason":%q}],"created":%d,"model":"%s","system_fingerprint":"stub","object":"text_completion",%s,"id":"chatcmpl-%s",%s}`,
		text, c.finish, r.created, Model, c.usage(), r.id, c.timings())
}

func nativeToken(dst []byte, r *replyInfo, text []byte, n int) []byte {
	dst = append(dst, `data: {"index":0,"content":"`...)
	dst = append(dst, text...)
	return fmt.Appendf(dst, "\",\"tokens\":[%d],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":%d,\"tokens_evaluated\":%d}\n\n", n, n, r.prompt)
}

func nativeFinal(dst []byte, r *replyInfo, c *counts) []byte {
	return fmt.Appendf(dst, "data: %s\n\n", nativeWhole(r, c, nil))
}

func nativeWhole(_ *replyInfo, c *counts, text []byte) []byte {
	stop := map[string]string{"length": "limit", "stop": "eos"}[c.finish]
	return fmt.Appendf(nil, `{"index":0,"content":"%s","tokens":[],"id_slot":%d,"stop":true,"model":"%s","tokens_predicted":%d,"tokens_evaluated":%d,"generation_settings":{"n_predict":%d},"has_new_line":false,"truncated":false,"stop_type":%q,"stopping_word":"","tokens_cached":%d,%s}`,
		text, c.slot, Model, c.output, c.prompt, c.output, stop, c.prompt+max(c.output-1, 0), c.timings())
}
