package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wattline/replay"
)

// props holds the fields read from GET /props.
type props struct {
	Defaults struct {
		NCtx int `json:"n_ctx"` // per slot
	} `json:"default_generation_settings"`
	TotalSlots int    `json:"total_slots"`
	ModelAlias string `json:"model_alias"`
	ModelPath  string `json:"model_path"`
	ModelFtype string `json:"model_ftype"`
	BuildInfo  string `json:"build_info"`
}

// models holds the fields read from GET /v1/models.
type models struct {
	Data []struct {
		ID   string `json:"id"`
		Meta struct {
			NParams int64  `json:"n_params"`
			Size    int64  `json:"size"`
			Ftype   string `json:"ftype"`
		} `json:"meta"`
	} `json:"data"`
}

// Server asks the server about itself, waiting while it loads its model. waiting, if not nil, is called
// once when it has to wait. Its errors are sentences for the user.
func (c *Client) Server(ctx context.Context, waiting func()) (*replay.Server, error) {
	if err := c.loaded(ctx, waiting); err != nil {
		return nil, err
	}
	var p props
	if err := c.ask(ctx, "/props", nil, &p); err != nil {
		return nil, c.notLlama(err)
	}
	if p.BuildInfo == "" || p.TotalSlots == 0 {
		return nil, fmt.Errorf("%s answers GET /props, but not as llama-server does: prompts are sized with llama-server's own tokenizer, so only that can be measured", c.name)
	}
	s := &replay.Server{
		Endpoint: c.name, Build: p.BuildInfo, ModelPath: p.ModelPath, Quantisation: p.ModelFtype,
		ContextTokens: p.Defaults.NCtx, Slots: p.TotalSlots,
	}
	s.Model = baseName(p.ModelPath)
	if p.ModelAlias != "" {
		s.Model = baseName(p.ModelAlias)
	}
	var m models
	if err := c.ask(ctx, "/v1/models", nil, &m); err == nil && len(m.Data) > 0 {
		s.Params, s.ModelBytes = m.Data[0].Meta.NParams, m.Data[0].Meta.Size
	} else if err != nil && ctx.Err() != nil {
		return nil, err
	}
	return s, nil
}

// Models lists the ids of GET /v1/models.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	var m models
	if err := c.ask(ctx, "/v1/models", nil, &m); err != nil {
		return nil, c.notLlama(err)
	}
	var ids []string
	for _, d := range m.Data {
		ids = append(ids, d.ID)
	}
	return ids, nil
}

// Health is GET /health once.
func (c *Client) Health(ctx context.Context) error {
	return c.notLlama(c.ask(ctx, "/health", nil, nil))
}

// loaded waits as long as the server says 503.
func (c *Client) loaded(ctx context.Context, waiting func()) error {
	deadline := time.Now().Add(c.cfg.LoadTimeout)
	for first := true; ; first = false {
		err := c.ask(ctx, "/health", nil, nil)
		if err == nil {
			return nil
		}
		if StatusOf(err) != http.StatusServiceUnavailable {
			return c.notLlama(err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was still loading its model after %v (%w)", c.name, c.cfg.LoadTimeout, err)
		}
		if first && waiting != nil {
			waiting()
		}
		if err := sleep(ctx, loadPoll); err != nil {
			return err
		}
	}
}

const loadPoll = 250 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notLlama makes an HTTP status a sentence that says what to do.
func (c *Client) notLlama(err error) error {
	var s *statusError
	if !errors.As(err, &s) {
		return err
	}
	switch s.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s wants an API key: put it into a file and give --api-key-file (%w)", c.name, err)
	case http.StatusBadGateway:
		return fmt.Errorf("%s is there, but the server behind it is not: start the llama-server (%w)", c.name, err)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fmt.Errorf("%s is a server, but not a llama-server: prompts are sized with llama-server's own tokenizer (%w)", c.name, err)
	}
	return fmt.Errorf("%s answers, but not as a llama-server should (%w)", c.name, err)
}

// Count implements prompt.Counter: the chat template around one user message, then the tokenizer.
func (c *Client) Count(ctx context.Context, content string) (int, error) {
	return c.CountMessages(ctx, userMessage(content))
}

// CountMessages counts the tokens of a conversation, the chat template included.
func (c *Client) CountMessages(ctx context.Context, messages json.RawMessage) (int, error) {
	var templated struct {
		Prompt *string `json:"prompt"`
	}
	if err := c.ask(ctx, "/apply-template", map[string]any{"messages": messages}, &templated); err != nil {
		return 0, c.notLlama(err)
	}
	if templated.Prompt == nil {
		return 0, fmt.Errorf("%s answers POST /apply-template without a prompt: it is no llama-server, or too old a one", c.name)
	}
	var tokens struct {
		Tokens []int `json:"tokens"`
	}
	err := c.ask(ctx, "/tokenize", map[string]any{"content": *templated.Prompt, "add_special": true, "parse_special": true}, &tokens)
	if err != nil {
		return 0, c.notLlama(err)
	}
	return len(tokens.Tokens), nil
}

// Tokenize implements prompt.Tokenizer.
func (c *Client) Tokenize(ctx context.Context, text string, special bool) ([]replay.Token, error) {
	var answer struct {
		Tokens []struct {
			ID    int             `json:"id"`
			Piece json.RawMessage `json:"piece"` // a string, or bytes that are not UTF-8
		} `json:"tokens"`
	}
	err := c.ask(ctx, "/tokenize", map[string]any{"content": text, "add_special": special, "parse_special": true, "with_pieces": true}, &answer)
	if err != nil {
		return nil, c.notLlama(err)
	}
	out := make([]replay.Token, len(answer.Tokens))
	for i, t := range answer.Tokens {
		out[i].ID = t.ID
		var bytes []uint16
		switch {
		case json.Unmarshal(t.Piece, &out[i].Piece) == nil:
		case json.Unmarshal(t.Piece, &bytes) == nil:
			for _, b := range bytes {
				out[i].Piece += string([]byte{byte(b)}) //nolint:gosec // bytes
			}
		default:
			return nil, fmt.Errorf("%s answers POST /tokenize without pieces: it is no llama-server, or too old a one", c.base)
		}
	}
	return out, nil
}

// userMessage is a conversation of one message of the user.
func userMessage(content string) json.RawMessage {
	text, err := json.Marshal([]map[string]string{{"role": "user", "content": content}})
	if err != nil {
		panic(err) // texts can be marshalled
	}
	return text
}

func baseName(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' || path[i] == '\\' {
			return path[i+1:]
		}
	}
	return path
}
