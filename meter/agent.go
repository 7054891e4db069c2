package meter

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// known are programs whose User-Agent does not begin with their name: the first pattern that fits counts. Seen with real
// clients (meter/testdata/clients.json), or in their sources.
//
//nolint:gochecknoglobals // a constant table
var known = []struct {
	product string // first product of the User-Agent, or a prefix of it that ends in *
	header  string // must be there too
	name    string
}{
	{"claude-cli", "", "claude-code"},
	{"Bun", "X-Claude-Code-Session-Id", "claude-code"},
	{"codex*", "", "codex"}, // codex_cli_rs, codex_exec, codex-tui
	{"OpenAI", "Session_id", "pi"},
	{"OpenAI", "Session-Id", "pi"},
	{"ls", "", "continue"},
	{"QwenCode", "", "qwen-code"},
	{"langchainjs*", "", "langchain"},
	{"langchain*", "", "langchain"},
	{"Agents", "", "openai-agents"},
	{"ai", "", "vercel-ai"},
	{"ai-sdk*", "", "vercel-ai"}, // ai-sdk-openai-compatible, ...
	{"OpenAI", "", "openai-sdk"},
	{"AsyncOpenAI", "", "openai-sdk"},
	{"Anthropic", "", "anthropic-sdk"},
	{"AsyncAnthropic", "", "anthropic-sdk"},
}

// agentName names the program that sent a request: by User-Agent and headers, where the table knows it, else the first
// product. X-Title, by which programs tell OpenRouter who they are, tells more than a library's name.
func agentName(header func(string) []byte) string {
	p := product(header("User-Agent"))
	for _, k := range known {
		prefix, open := strings.CutSuffix(k.product, "*")
		if p != k.product && !(open && strings.HasPrefix(p, prefix)) || k.header != "" && !nonEmpty(header(k.header)) {
			continue
		}
		if title := clip(header("X-Title"), identityBytes); library(k.name) && title != "" && printable(title) {
			return strings.ReplaceAll(strings.ToLower(title), " ", "-")
		}
		return k.name
	}
	return p
}

// library reports whether the name is that of a library that many programs use.
func library(name string) bool {
	return slices.Contains([]string{"vercel-ai", "openai-sdk", "anthropic-sdk", "langchain"}, name)
}

// AgentRule names the clients of which a fact holds.
type AgentRule struct {
	name, kind, value string
	header            string
	prefix            netip.Prefix
}

// agentKinds are the facts, in the order in which rules are tried.
func agentKinds() []string { return []string{"key", "header", "address", "user-agent", "route"} }

// ParseAgentRules reads rules by name: "key:ID" (as column api_key_id has it), "header:NAME=VALUE", "address:IP" or a
// network, "user-agent:PREFIX", "route:NAME".
func ParseAgentRules(rules map[string]string) ([]AgentRule, error) {
	var out []AgentRule
	for name, text := range rules {
		r := AgentRule{name: name}
		var ok bool
		r.kind, r.value, ok = strings.Cut(text, ":")
		if !ok || r.value == "" || name == "" || !slices.Contains(agentKinds(), r.kind) {
			return nil, fmt.Errorf("agent %q has %q: write key:ID, header:NAME=VALUE, address:IP, user-agent:PREFIX or route:NAME", name, text)
		}
		switch r.kind {
		case "header":
			if r.header, r.value, ok = strings.Cut(r.value, "="); !ok || r.header == "" {
				return nil, fmt.Errorf("agent %q has %q: write header:NAME=VALUE", name, text)
			}
		case "address":
			p, err := netip.ParsePrefix(r.value)
			if err != nil {
				var a netip.Addr
				if a, err = netip.ParseAddr(r.value); err == nil {
					p = netip.PrefixFrom(a, a.BitLen())
				}
			}
			if err != nil {
				return nil, fmt.Errorf("agent %q: %q is no address and no network (10.0.0.7, 10.0.0.0/8)", name, r.value)
			}
			r.prefix = p
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b AgentRule) int {
		return cmp.Or(cmp.Compare(slices.Index(agentKinds(), a.kind), slices.Index(agentKinds(), b.kind)), cmp.Compare(a.name, b.name))
	})
	return out, nil
}

// holds reports whether the rule names the client of a request. keyID is the hash of its API key.
func (r *AgentRule) holds(rec *Record, header func(string) []byte, keyID, address string) bool {
	switch r.kind {
	case "key":
		return keyID != "" && r.value == keyID
	case "header":
		return clip(header(r.header), identityBytes) == r.value
	case "address":
		a, err := netip.ParseAddr(host(address))
		return err == nil && r.prefix.Contains(a.Unmap())
	case "user-agent":
		return strings.HasPrefix(clip(header("User-Agent"), identityBytes), r.value)
	}
	return rec.Route == r.value
}
