// Openai-go through wattline: main URL TOOLS-URL. It prints what each step found as one JSON object; the
// test in package proxy judges it. X-Request-Id names each request's row. It is a module of its own so
// that wattline's does not depend on the client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

type found struct {
	Error    string `json:"error,omitempty"`
	Models   int    `json:"models,omitempty"`
	Tokens   int64  `json:"tokens,omitempty"`
	Text     int    `json:"text,omitempty"`
	Finish   string `json:"finish,omitempty"`
	Name     string `json:"name,omitempty"`
	N        any    `json:"n,omitempty"`
	Events   int    `json:"events,omitempty"`
	Status   int    `json:"status,omitempty"`
	Canceled bool   `json:"canceled,omitempty"`
}

func client(url string) openai.Client {
	return openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey("secret"), option.WithMaxRetries(0))
}

func named(id string) option.RequestOption { return option.WithHeader("X-Request-Id", id) }

func chat(tokens int64) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: "m", MaxTokens: openai.Int(tokens),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("write\nsome code")},
	}
}

func main() {
	ctx := context.Background()
	c, tools := client(os.Args[1]), client(os.Args[2])
	full := option.WithJSONSet("ignore_eos", true)
	steps := map[string]func(id string) (found, error){
		"go-models": func(id string) (found, error) {
			list, err := c.Models.List(ctx, named(id))
			if err != nil {
				return found{}, err
			}
			return found{Models: len(list.Data)}, nil
		},
		"go-whole": func(id string) (found, error) {
			r, err := c.Chat.Completions.New(ctx, chat(20), named(id), full)
			if err != nil {
				return found{}, err
			}
			return found{Tokens: r.Usage.CompletionTokens, Finish: r.Choices[0].FinishReason}, nil
		},
		"go-stream": func(id string) (found, error) {
			p := chat(40)
			p.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
			stream := c.Chat.Completions.NewStreaming(ctx, p, named(id), full)
			var f found
			for stream.Next() {
				e := stream.Current()
				if len(e.Choices) > 0 {
					f.Text += len(e.Choices[0].Delta.Content)
				}
				f.Tokens = max(f.Tokens, e.Usage.CompletionTokens)
			}
			return f, stream.Err()
		},
		"go-tools": func(id string) (found, error) {
			p := chat(500)
			p.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("required")}
			p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
				Name: "get_weather",
				Parameters: openai.FunctionParameters{
					"type": "object", "properties": map[string]any{"n": map[string]string{"type": "integer"}}, "required": []string{"n"},
				},
			})}
			stream := tools.Chat.Completions.NewStreaming(ctx, p, named(id))
			var acc openai.ChatCompletionAccumulator
			for stream.Next() {
				acc.AddChunk(stream.Current())
			}
			if err := stream.Err(); err != nil {
				return found{}, err
			}
			call := acc.Choices[0].Message.ToolCalls[0].Function
			var args map[string]any
			err := json.Unmarshal([]byte(call.Arguments), &args)
			return found{Name: call.Name, N: fmt.Sprintf("%T", args["n"])}, err
		},
		"go-abort": func(id string) (found, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream := c.Chat.Completions.NewStreaming(ctx, chat(100000), named(id), full)
			var f found
			for stream.Next() {
				if e := stream.Current(); len(e.Choices) > 0 && e.Choices[0].Delta.Content != "" {
					if f.Events++; f.Events == 3 {
						cancel()
					}
				}
			}
			f.Canceled = errors.Is(stream.Err(), context.Canceled)
			return f, nil
		},
		"go-error": func(id string) (found, error) {
			_, err := c.Chat.Completions.New(ctx, chat(20), named(id), option.WithJSONSet("messages", "none"))
			var api *openai.Error
			if !errors.As(err, &api) {
				return found{}, fmt.Errorf("not an API error: %w", err)
			}
			return found{Status: api.StatusCode}, nil
		},
	}
	report := map[string]found{}
	for id, step := range steps {
		f, err := step(id)
		if err != nil {
			f.Error = err.Error()
		}
		report[id] = f
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		os.Exit(1)
	}
}
