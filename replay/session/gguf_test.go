package session

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wattline/deploy/llama"
)

// Kinds of values in a GGUF file.
const (
	ggufUint32 = 4
	ggufInt32  = 5
	ggufFloat  = 6
	ggufBool   = 7
	ggufString = 8
	ggufArray  = 9
	ggufUint64 = 10
	ggufInt64  = 11
	ggufDouble = 12
)

// withTokenizer writes the small model with another tokenizer and returns the file. set are the keys below tokenizer.ggml.
func withTokenizer(t *testing.T, set map[string]any) string {
	t.Helper()
	model, err := llama.TinyModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(model) //nolint:gosec // the cache's
	if err != nil {
		t.Fatal(err)
	}
	tensors, keys := binary.LittleEndian.Uint64(file[8:]), binary.LittleEndian.Uint64(file[16:])
	at, kept := 24, 0
	var values bytes.Buffer
	for range keys {
		from := at
		name := ggufText(file, &at)
		kind := binary.LittleEndian.Uint32(file[at:])
		at += 4
		ggufSkip(t, file, &at, kind)
		if !strings.HasPrefix(name, "tokenizer.ggml.") {
			values.Write(file[from:at])
			kept++
		}
	}
	begin := at // of the tensors' descriptions
	for range tensors {
		ggufText(file, &at)
		at += 4 + 8*int(binary.LittleEndian.Uint32(file[at:])) + 4 + 8
	}
	const alignment = 32
	data := (at + alignment - 1) / alignment * alignment
	var out bytes.Buffer
	out.WriteString("GGUF")
	ggufAppend(&out, uint32(3), tensors, uint64(kept+len(set)))
	out.Write(values.Bytes())
	for _, key := range slices.Sorted(maps.Keys(set)) {
		ggufWriteText(&out, "tokenizer.ggml."+key)
		ggufValue(t, &out, set[key])
	}
	out.Write(file[begin:at])
	out.Write(make([]byte, (alignment-out.Len()%alignment)%alignment))
	out.Write(file[data:])
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func ggufText(file []byte, at *int) string {
	n := int(binary.LittleEndian.Uint64(file[*at:])) //nolint:gosec // a small file of ours
	*at += 8 + n
	return string(file[*at-n : *at])
}

func ggufSkip(t *testing.T, file []byte, at *int, kind uint32) {
	t.Helper()
	sizes := map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, ggufUint32: 4, ggufInt32: 4, ggufFloat: 4, ggufBool: 1, ggufUint64: 8, ggufInt64: 8, ggufDouble: 8}
	switch size, ok := sizes[kind]; {
	case ok:
		*at += size
	case kind == ggufString:
		ggufText(file, at)
	case kind == ggufArray:
		of, n := binary.LittleEndian.Uint32(file[*at:]), binary.LittleEndian.Uint64(file[*at+4:])
		*at += 12
		for range n {
			ggufSkip(t, file, at, of)
		}
	default:
		t.Fatalf("a GGUF value of kind %d", kind)
	}
}

func ggufAppend(out *bytes.Buffer, values ...any) {
	for _, v := range values {
		_ = binary.Write(out, binary.LittleEndian, v) // a buffer
	}
}

func ggufWriteText(out *bytes.Buffer, s string) {
	ggufAppend(out, uint64(len(s)))
	out.WriteString(s)
}

func ggufValue(t *testing.T, out *bytes.Buffer, v any) {
	t.Helper()
	switch v := v.(type) {
	case string:
		ggufAppend(out, uint32(ggufString))
		ggufWriteText(out, v)
	case bool:
		ggufAppend(out, uint32(ggufBool), v)
	case int:
		ggufAppend(out, uint32(ggufUint32), uint32(v)) //nolint:gosec // small
	case []string:
		ggufAppend(out, uint32(ggufArray), uint32(ggufString), uint64(len(v)))
		for _, s := range v {
			ggufWriteText(out, s)
		}
	case []int32:
		ggufAppend(out, uint32(ggufArray), uint32(ggufInt32), uint64(len(v)), v)
	case []float32:
		ggufAppend(out, uint32(ggufArray), uint32(ggufFloat), uint64(len(v)), v)
	default:
		t.Fatalf("a GGUF value %T", v)
	}
}

// vocabularySize is that of the small model's tensors.
const vocabularySize = 2048

// Kinds of tokens in a GGUF file.
const (
	normalToken  = 1
	unknownToken = 2
	control      = 3
	unused       = 5
	byteToken    = 6
)

// mergesOf learns byte pairs from a text: the pairs that are joined, in this order. Words are never joined.
func mergesOf(text, space string, n int) (merges [][2]string) {
	counts := map[string]int{}
	for _, line := range strings.Split(text, "\n") {
		for _, w := range strings.Fields(line) {
			counts[space+w]++
		}
	}
	type word struct {
		parts []string
		n     int
	}
	var words []*word
	for _, w := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, &word{strings.Split(w, ""), counts[w]})
	}
	for len(merges) < n {
		pairs := map[[2]string]int{}
		for _, w := range words {
			for i := 1; i < len(w.parts); i++ {
				pairs[[2]string{w.parts[i-1], w.parts[i]}] += w.n
			}
		}
		if len(pairs) == 0 {
			return merges
		}
		best := slices.MaxFunc(slices.Collect(maps.Keys(pairs)), func(a, b [2]string) int {
			return cmp.Or(cmp.Compare(pairs[a], pairs[b]), cmp.Compare(b[0], a[0]), cmp.Compare(b[1], a[1]))
		})
		merges = append(merges, best)
		for _, w := range words {
			for i := 1; i < len(w.parts); i++ {
				if w.parts[i-1] == best[0] && w.parts[i] == best[1] {
					w.parts[i-1] += w.parts[i]
					w.parts = slices.Delete(w.parts, i, i+1)
				}
			}
		}
	}
	return merges
}

// bytePairs is a byte-level BPE tokenizer as GPT-2's and its successors', learnt from a text.
func bytePairs(text string, merges int) map[string]any {
	var tokens []string
	for b := range 256 { // printable bytes stand for themselves, the others for signs from 256 on
		r := rune(b)
		if !(b >= 33 && b < 127 || b >= 161 && b != 173) {
			r = rune(256 + len(slices.DeleteFunc(slices.Clone(tokens), func(s string) bool { return []rune(s)[0] < 256 })))
		}
		tokens = append(tokens, string(r))
	}
	var joined []string
	for _, m := range mergesOf(ascii(text), "Ġ", merges) {
		tokens, joined = append(tokens, m[0]+m[1]), append(joined, m[0]+" "+m[1])
	}
	kinds := make([]int32, vocabularySize)
	for i := range kinds {
		kinds[i] = normalToken
		if i >= len(tokens) {
			tokens = append(tokens, fmt.Sprintf("<|%d|>", i))
			kinds[i] = unused
		}
	}
	kinds[vocabularySize-1] = control
	return map[string]any{
		"model": "gpt2", "pre": "llama-bpe", "tokens": tokens, "token_type": kinds, "merges": joined, "add_bos_token": true,
		"bos_token_id": vocabularySize - 1, "eos_token_id": vocabularySize - 1,
	}
}

// sentencePiece is a SentencePiece tokenizer as Llama 2's, learnt from a text. crossing of its tokens span two words.
func sentencePiece(text string, merges, crossing int) map[string]any {
	tokens, kinds, scores := []string{"<unk>", "<s>", "</s>"}, []int32{unknownToken, control, control}, []float32{0, 0, 0}
	add := func(text string, kind int32, score float32) {
		if !slices.Contains(tokens, text) {
			tokens, kinds, scores = append(tokens, text), append(kinds, kind), append(scores, score)
		}
	}
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), byteToken, 0)
	}
	text = ascii(text)
	for i, m := range mergesOf(text, "▁", merges) {
		add(m[0]+m[1], normalToken, -float32(i))
	}
	known := map[string]bool{}
	for _, s := range tokens {
		known[s] = true
	}
	var before string
	for _, w := range strings.Fields(text) {
		if w = "▁" + w; known[w] && known[before] && crossing > 0 && !known[before+w] {
			add(before+w, normalToken, -float32(len(tokens)))
			known[before+w] = true
			crossing--
		}
		before = w
	}
	for c := byte('!'); c < 127; c++ {
		add(string(c), normalToken, -5000)
	}
	add("▁", normalToken, -5000)
	for i := len(tokens); i < vocabularySize; i++ {
		add(fmt.Sprintf("<unused%d>", i), unused, 0)
	}
	return map[string]any{
		"model": "llama", "pre": "default", "tokens": tokens, "token_type": kinds, "scores": scores, "bos_token_id": 1, "eos_token_id": 2,
		"unknown_token_id": 0, "add_bos_token": true, "add_space_prefix": true,
	}
}

// ascii leaves out what is not ASCII.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 {
			return r
		}
		return -1
	}, s)
}
