package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"wattline/meter"
)

// ServerConfig describes the upstream and its devices while a request ran; config_id of a request names its row. A changed
// fact makes a new row with a new id.
type ServerConfig struct {
	ConfigID        string
	At              time.Time // when these facts were first seen together, UTC
	Instance        string
	Upstream        string
	ServerBuild     string
	ServerFlags     []string
	Model           string
	Quantisation    string
	ContextTokens   meter.Int
	Slots           meter.Int
	GPUs            []string
	Driver          string
	GPUPowerLimitMw meter.Int
	WattlineVersion string
}

// Identify sets the ConfigID: the first 16 hexadecimal digits of the SHA-256 of all facts but At, in the order
// of the columns.
func (c *ServerConfig) Identify() {
	var facts []any
	for _, col := range ConfigColumns()[2:] { // all but config_id and at
		facts = append(facts, col.Name, col.Ptr(c))
	}
	text, err := json.Marshal(facts)
	if err != nil {
		panic(err) // strings, numbers and lists of strings
	}
	sum := sha256.Sum256(text)
	c.ConfigID = hex.EncodeToString(sum[:8])
}

// ConfigColumns returns the columns of table configs in their canonical order.
func ConfigColumns() []Column[ServerConfig] {
	return []Column[ServerConfig]{
		{1, "config_id", "", "hash of the facts below", func(c *ServerConfig) any { return &c.ConfigID }},
		{1, "at", "", "when these facts were first seen together (UTC)", func(c *ServerConfig) any { return &c.At }},
		{1, "instance", "", "the wattline that saw them", func(c *ServerConfig) any { return &c.Instance }},
		{1, "upstream", "", "address of the server", func(c *ServerConfig) any { return &c.Upstream }},
		{1, "server_build", "", "build the server reports", func(c *ServerConfig) any { return &c.ServerBuild }},
		{1, "server_flags", "", "flags of its command line, secrets removed", func(c *ServerConfig) any { return &c.ServerFlags }},
		{1, "model", "", "model it serves", func(c *ServerConfig) any { return &c.Model }},
		{1, "quantisation", "", "quantisation of its weights", func(c *ServerConfig) any { return &c.Quantisation }},
		{1, "context_tokens", "", "context length of a slot", func(c *ServerConfig) any { return &c.ContextTokens }},
		{1, "slots", "", "slots it serves at once", func(c *ServerConfig) any { return &c.Slots }},
		{1, "gpus", "", "names of its devices", func(c *ServerConfig) any { return &c.GPUs }},
		{1, "driver", "", "driver version", func(c *ServerConfig) any { return &c.Driver }},
		{1, "gpu_power_limit_mw", "mW", "enforced power limit", func(c *ServerConfig) any { return &c.GPUPowerLimitMw }},
		{1, "wattline_version", "", "version of this program", func(c *ServerConfig) any { return &c.WattlineVersion }},
	}
}
