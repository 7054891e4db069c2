package llama

import (
	"context"
	_ "embed" // for tinyModel
	"fmt"
	"os"
	"path/filepath"
)

// tinyModel is a llama-architecture GGUF with random weights: 2 layers, width 128, a vocabulary of 2,048
// bytes and syllables, 131,072 tokens of context. Its output layer never favours an end token, so replies
// run to their full length.
//
//go:embed testdata/tiny-random-llama.gguf
var tinyModel []byte

// TinyModelName is the file name of the model that [TinyModel] writes.
const TinyModelName = "tiny-random-llama.gguf"

// TinyModel returns the path of the small random model in the cache, which it writes there if it is
// missing or of another size. Its text is gibberish and its speed means nothing.
func TinyModel(ctx context.Context) (path string, err error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("llama: write the small model: %w", err)
	}
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, TinyModelName)
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(tinyModel)) {
		return path, nil
	}
	if err := writeWhole(path, tinyModel, 0o644); err != nil {
		return "", fmt.Errorf("llama: write the small model: %w", err)
	}
	return path, nil
}
