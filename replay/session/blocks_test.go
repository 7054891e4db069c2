package session

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"wattline/proxy/llamatest"
	"wattline/replay/client"
	"wattline/replay/prompt"
)

// TestThreeTokenizers: on real servers with three tokenizers, the small model's, a byte-level BPE and a SentencePiece
// whose tokens may span two words, prompts of random blocks have exactly the tokens they should have.
func TestThreeTokenizers(t *testing.T) {
	text, err := os.ReadFile("../GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	sequences := 60
	if os.Getenv("WATTLINE_SOAK") != "" {
		sequences = 1000
	}
	for name, tokenizer := range map[string]map[string]any{
		"the small model's": nil, "byte-level BPE": bytePairs(string(text), 600), "SentencePiece": sentencePiece(string(text), 600, 40),
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if tokenizer != nil {
				args = []string{"-m", withTokenizer(t, tokenizer)}
			}
			srv := llamatest.Start(t, args...)
			c, err := client.New(client.Config{Endpoint: srv.URL()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b, err := prompt.FindBlocks(t.Context(), c, 11)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(5, 6))
			total := 0
			for range sequences {
				var parts []prompt.Part
				want := b.Lead()
				for range 1 + r.IntN(12) {
					p := prompt.Part{Block: r.Uint32N(1000), Tokens: 1 + r.IntN(128)}
					parts, want = append(parts, p), want+p.Tokens
				}
				tokens, err := c.Tokenize(t.Context(), b.Text(parts), true)
				if err != nil {
					t.Fatal(err)
				}
				ids := make([]int, 0, len(tokens))
				for _, token := range tokens {
					ids = append(ids, token.ID)
				}
				if len(ids) != want || !slices.Equal(ids[b.Lead():], b.IDs(parts)) {
					t.Fatalf("%v is %d tokens, want %d", parts, len(ids), want)
				}
				total += want
			}
			t.Logf("%d sequences of blocks, %d tokens, all exact; %d in front", sequences, total, b.Lead())
		})
	}
}
