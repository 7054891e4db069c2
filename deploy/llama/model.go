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
// have their full length.
//
//go:embed testdata/tiny-random-llama.gguf
var tinyModel []byte

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
	path = filepath.Join(dir, "tiny-random-llama.gguf")
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(tinyModel)) {
		return path, nil
	}
	if err := writeFile(path, tinyModel, 0o644); err != nil {
		return "", fmt.Errorf("llama: write the small model: %w", err)
	}
	return path, nil
}
