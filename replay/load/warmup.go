package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"wattline/replay"
)

// Throw-away requests: sizes of prompts, and how many tokens they generate.
const (
	warmupSmall  = 1000
	warmupLarge  = 8000
	warmupTokens = 16
	// warmupStep is by how many tokens the replies of concurrent throw-away requests differ, so that they
	// end one after the other and every batch width has been used once.
	warmupStep  = 4
	warmupWidth = 32
)

// WarmUp sends throw-away requests: alone, small and large, which gives the speed for the prediction,
// and then as many at once as the run will send. The first use of a batch width compiles kernels for
// seconds.
func (r *Runner) WarmUp(ctx context.Context) error {
	sizes := []int{warmupSmall, warmupLarge}
	task := r.cfg.Plan.Cells[0].Task
	all := r.cfg.Plan.PromptSizes()
	small, large := slices.Min(all), slices.Max(all)
	sizes[0], sizes[1] = min(max(sizes[0], small), large), min(sizes[1], large)
	r.cfg.Say("warming up")
	sent, err := r.warmSizes(ctx, task, sizes)
	if err != nil {
		return err
	}
	for _, ex := range sent {
		r.cost.learn(ex)
	}
	width := min(r.width(), max(warmupWidth, r.cfg.Slots))
	if width < 2 {
		return nil
	}
	return r.warmWidths(ctx, task, sizes[0], width)
}

// warmSizes sends a throw-away request of each size. The first of all may have waited for kernels to be
// compiled: where it was slower a token than a longer prompt, another takes its place.
func (r *Runner) warmSizes(ctx context.Context, task string, sizes []int) (sent []*replay.Exchange, err error) {
	for i, n := range sizes {
		if i > 0 && n == sizes[0] {
			break
		}
		ex, err := r.throwAway(ctx, task, n, i, warmupTokens)
		if err != nil {
			return nil, err
		}
		if got := ex.PromptTokens(); i == 0 && got.Valid && int(got.V) != ex.Cell.PromptTokens && r.cfg.Offset != nil {
			offset := int(got.V) - ex.Cell.PromptTokens
			r.cfg.Offset(offset)
			r.cfg.Say("the server evaluates %+d tokens beside those its tokenizer counts; prompts are sized accordingly", offset)
			if ex, err = r.throwAway(ctx, task, n, i, warmupTokens); err != nil {
				return nil, err
			}
		}
		sent = append(sent, ex)
	}
	if len(sent) > 1 && perToken(sent[0]) > slowStart*perToken(sent[1]) {
		sent[0], err = r.throwAway(ctx, task, sizes[0], len(sizes), warmupTokens)
	}
	return sent, err
}

// slowStart is by how much the first prompt's token may take longer than a longer prompt's.
const slowStart = 2

// perToken is the time to the first token in microseconds by the tokens of the prompt.
func perToken(ex *replay.Exchange) float64 {
	return float64(ex.TTFTUs.V) / float64(max(ex.Cell.PromptTokens, 1))
}

// width is how many requests may be in flight together.
func (r *Runner) width() int {
	if s := &r.cfg.Plan.Spec; s.Rate == 0 && r.cfg.Recording == nil {
		return s.Concurrency
	}
	return max(r.cfg.Slots, 1)
}

func (r *Runner) warmWidths(ctx context.Context, task string, size, width int) error {
	reqs := make([]*replay.Request, width)
	for i := range reqs {
		var err error
		if reqs[i], err = r.throwAwayRequest(ctx, task, size, 3+i, warmupTokens+warmupStep*i); err != nil {
			return err
		}
	}
	errs := make([]error, width)
	var wg sync.WaitGroup
	for i, req := range reqs {
		wg.Go(func() { _, errs[i] = r.sendThrowAway(ctx, req) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *Runner) throwAway(ctx context.Context, task string, size, nth, tokens int) (*replay.Exchange, error) {
	req, err := r.throwAwayRequest(ctx, task, size, nth, tokens)
	if err != nil {
		return nil, err
	}
	return r.sendThrowAway(ctx, req)
}

func (r *Runner) throwAwayRequest(ctx context.Context, task string, size, nth, tokens int) (*replay.Request, error) {
	req := &replay.Request{
		Key: replay.Key{Cell: -1, Index: nth}, Warmup: true, Cache: replay.Cold, Forced: true,
		Cell: replay.Cell{Task: task, PromptTokens: size, OutputTokens: tokens},
	}
	if t := r.cfg.Recording; t != nil {
		req.Raw = t.WarmUp(size, nth)
		return req, nil
	}
	if d := r.cfg.Plan.Dataset; d != nil {
		d.Send(req, d.Nearest(size))
		req.Cell.OutputTokens = tokens
		return req, nil
	}
	var err error
	req.Prompt, err = r.cfg.Prompts.Make(ctx, task, size, r.cfg.Plan.WarmupSeed(nth))
	return req, err
}

func (r *Runner) sendThrowAway(ctx context.Context, req *replay.Request) (*replay.Exchange, error) {
	ex := r.cfg.Sender.Send(ctx, req)
	r.mu.Lock()
	r.warmups = append(r.warmups, ex)
	r.mu.Unlock()
	if !ex.OK() {
		return nil, fmt.Errorf("the first request, before anything is measured, failed: %s", ex.Error)
	}
	return ex, nil
}
