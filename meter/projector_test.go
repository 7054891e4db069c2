package meter_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"strings"
)

// llama-server takes images and audio with a multimodal projector beside its model. These are the
// smallest that it accepts, with random weights, for the small model's width of 128: a CLIP encoder
// with LLaVA's projector, and a Whisper encoder with Qwen2-Audio's.

// gguf collects what a GGUF file (version 3) holds; all tensors are F32 but those named in half.
type gguf struct {
	keys, infos, data bytes.Buffer
	nKeys, nTensors   uint64
	rng               *rand.Rand
}

func newGGUF() *gguf { return &gguf{rng: rand.New(rand.NewPCG(1, 2))} }

func (g *gguf) put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		if s, ok := v.(string); ok {
			g.put(b, uint64(len(s)))
			b.WriteString(s)
			continue
		}
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err) // a bytes.Buffer takes all, and only fixed sizes are given
		}
	}
}

// key adds one key: uint32, float32, bool, string or []float32.
func (g *gguf) key(name string, v any) {
	g.nKeys++
	g.put(&g.keys, name)
	switch v := v.(type) {
	case uint32:
		g.put(&g.keys, uint32(4), v)
	case float32:
		g.put(&g.keys, uint32(6), v)
	case bool:
		g.put(&g.keys, uint32(7), v)
	case string:
		g.put(&g.keys, uint32(8), v)
	case []float32:
		g.put(&g.keys, uint32(9), uint32(6), uint64(len(v)), v)
	}
}

// tensor adds a tensor of random weights.
func (g *gguf) tensor(name string, half bool, dims ...uint64) {
	g.nTensors++
	kind, count := uint32(0), uint64(1)
	if half {
		kind = 1
	}
	g.put(&g.infos, name, uint32(len(dims)))
	for _, d := range dims {
		g.put(&g.infos, d)
		count *= d
	}
	g.put(&g.infos, kind, uint64(g.data.Len()))
	for range count {
		if half {
			g.put(&g.data, uint16(0x2000|g.rng.UintN(0x400)|g.rng.UintN(2)<<15)) // ±0.0078 to 0.0156
			continue
		}
		g.put(&g.data, float32(g.rng.NormFloat64()*0.05))
	}
	pad(&g.data)
}

// layer adds one transformer layer of width d.
func (g *gguf) layer(prefix string, d, ff uint64, keyBias bool) {
	for _, a := range []string{"attn_q", "attn_k", "attn_v", "attn_out"} {
		g.tensor(prefix+a+".weight", false, d, d)
		if a != "attn_k" || keyBias {
			g.tensor(prefix+a+".bias", false, d)
		}
	}
	for _, norm := range []string{"ln1", "ln2"} {
		g.tensor(prefix+norm+".weight", false, d)
		g.tensor(prefix+norm+".bias", false, d)
	}
	g.tensor(prefix+"ffn_up.weight", false, d, ff)
	g.tensor(prefix+"ffn_up.bias", false, ff)
	g.tensor(prefix+"ffn_down.weight", false, ff, d)
	g.tensor(prefix+"ffn_down.bias", false, d)
}

func pad(b *bytes.Buffer) {
	const alignment = 32
	b.Write(make([]byte, (alignment-b.Len()%alignment)%alignment))
}

func (g *gguf) file() string {
	var out bytes.Buffer
	g.put(&out, uint32(0x46554747), uint32(3), g.nTensors, g.nKeys)
	out.Write(g.keys.Bytes())
	out.Write(g.infos.Bytes())
	pad(&out)
	out.Write(g.data.Bytes())
	return out.String()
}

func imageProjector() string {
	const d, ff, patch, side, text = 32, 64, 14, 28, 128
	g := newGGUF()
	g.key("general.architecture", "clip")
	g.key("clip.has_vision_encoder", true)
	g.key("clip.projector_type", "mlp")
	g.key("clip.use_gelu", true)
	for name, v := range map[string]uint32{"image_size": side, "patch_size": patch, "embedding_length": d, "feed_forward_length": ff, "projection_dim": text, "block_count": 2, "attention.head_count": 2} {
		g.key("clip.vision."+name, v)
	}
	g.key("clip.vision.attention.layer_norm_epsilon", float32(1e-5))
	g.key("clip.vision.image_mean", []float32{0.5, 0.5, 0.5})
	g.key("clip.vision.image_std", []float32{0.5, 0.5, 0.5})
	g.tensor("v.patch_embd.weight", false, patch, patch, 3, d)
	g.tensor("v.class_embd", false, d)
	g.tensor("v.position_embd.weight", false, d, side/patch*side/patch+1)
	g.tensor("v.pre_ln.weight", false, d)
	g.tensor("v.pre_ln.bias", false, d)
	g.layer("v.blk.0.", d, ff, true)
	g.layer("v.blk.1.", d, ff, true)
	g.tensor("mm.0.weight", false, d, text)
	g.tensor("mm.0.bias", false, text)
	g.tensor("mm.2.weight", false, text, text)
	g.tensor("mm.2.bias", false, text)
	return g.file()
}

func audioProjector() string {
	const d, ff, bins, text = 32, 64, 80, 128
	g := newGGUF()
	g.key("general.architecture", "clip")
	g.key("clip.has_audio_encoder", true)
	g.key("clip.projector_type", "qwen2a")
	g.key("clip.use_gelu", true)
	for name, v := range map[string]uint32{"num_mel_bins": bins, "embedding_length": d, "feed_forward_length": ff, "projection_dim": text, "block_count": 1, "attention.head_count": 2} {
		g.key("clip.audio."+name, v)
	}
	g.key("clip.audio.attention.layer_norm_epsilon", float32(1e-5))
	g.tensor("a.conv1d.1.weight", true, 3, bins, d)
	g.tensor("a.conv1d.1.bias", false, 1, d)
	g.tensor("a.conv1d.2.weight", true, 3, d, d)
	g.tensor("a.conv1d.2.bias", false, 1, d)
	g.tensor("a.position_embd.weight", false, d, 1500)
	g.layer("a.blk.0.", d, ff, false)
	g.tensor("a.post_ln.weight", false, d)
	g.tensor("a.post_ln.bias", false, d)
	g.tensor("mm.a.fc.weight", false, d, text)
	g.tensor("mm.a.fc.bias", false, text)
	return g.file()
}

// picture is a small PNG as a data URL.
func picture() string {
	const side = 28
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for x := range side {
		for y := range side {
			img.Set(x, y, color.NRGBA{uint8(9 * x), uint8(9 * y), 128, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // a bytes.Buffer takes all
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())
}

// sound is half a second of 8-bit WAV. Its bytes are all ASCII, so that a transcript's body can hold
// them as text: 8,000 a second, and a length with bytes below 0x80.
func sound() string {
	const samples = 0x0F40
	var b bytes.Buffer
	le := func(values ...any) {
		for _, v := range values {
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				panic(err) // a bytes.Buffer takes all
			}
		}
	}
	b.WriteString("RIFF")
	le(uint32(36 + samples))
	b.WriteString("WAVEfmt ")
	le(uint32(16), uint16(1), uint16(1), uint32(8000), uint32(8000), uint16(1), uint16(8))
	b.WriteString("data")
	le(uint32(samples))
	b.WriteString(strings.Repeat("@P`pxp`P", samples/8))
	return b.String()
}

// form is a multipart body with a sound and fields.
func form(fields ...string) string {
	var b strings.Builder
	for _, f := range fields {
		name, v, _ := strings.Cut(f, "=")
		fmt.Fprintf(&b, "--cut\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", name, v)
	}
	fmt.Fprintf(&b, "--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n%s\r\n--cut--\r\n", sound())
	return b.String()
}

const multipart = "multipart/form-data; boundary=cut"
