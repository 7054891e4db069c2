package main

// client is a client of npm and how it is told where the server is. In commands, files and environment {url} is wattline's
// address, {home} its home folder, {work} the folder in which it runs, {dir} the folder of its packages, and {platform} this
// system as npm names it: linux-x64. A program without a folder is one of node_modules/.bin.
type client struct {
	name     string
	packages []string // NAME@VERSION, the client first
	turns    [][]string
	files    map[string]string // in its home folder
	env      []string

	// What wattline's rows must say.
	agent    string
	names    bool // it names its sessions; else wattline infers them
	sessions int  // of its turns; 0: one
}

// script is a client that is a library: a script of folder scripts takes both turns.
func script(name string) [][]string { return [][]string{{"node", "{dir}/" + name, "{url}"}} }

// table lists the clients.
func table() []*client {
	const claude, opencode = "{dir}/node_modules/@anthropic-ai/claude-code-{platform}/claude", "{dir}/node_modules/opencode-{platform}/bin/opencode"
	return []*client{
		{name: "openai", packages: []string{"openai@7.59.0"}, turns: script("openai.mjs"), agent: "openai-sdk"},
		{name: "anthropic", packages: []string{"@anthropic-ai/sdk@1.14.0"}, turns: script("anthropic.mjs"), agent: "anthropic-sdk"},
		{name: "vercel-ai", packages: []string{"ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92"}, turns: script("ai.mjs"), agent: "vercel-ai"},
		{name: "langchain", packages: []string{"@langchain/openai@1.6.0", "@langchain/core@1.4.0"}, turns: script("langchain.mjs"), agent: "langchain"},
		{name: "openai-agents", packages: []string{"@openai/agents@0.20.0", "openai@7.59.0", "zod@4"}, turns: script("agents.mjs"), agent: "openai-agents"},
		{name: "ollama", packages: []string{"ollama@0.6.4"}, turns: script("ollama.mjs"), agent: "ollama-js"},
		{
			name: "codex", packages: []string{"@openai/codex@0.171.0"}, agent: "codex", names: true,
			turns: [][]string{{"codex", "exec", "--skip-git-repo-check", "say hello"}, {"codex", "exec", "resume", "--last", "--skip-git-repo-check", "say it again"}},
			env:   []string{"CODEX_HOME={home}/.codex", "WATTLINE_KEY=secret"},
			files: map[string]string{".codex/config.toml": `model = "tiny"
model_provider = "wattline"
[model_providers.wattline]
name = "wattline"
base_url = "{url}/v1"
env_key = "WATTLINE_KEY"
wire_api = "responses"
`},
		},
		{
			name: "claude-code", packages: []string{"@anthropic-ai/claude-code@2.1.332"}, agent: "claude-code", names: true,
			turns: [][]string{{claude, "-p", "say hello", "--model", "tiny"}, {claude, "-p", "--continue", "say it again", "--model", "tiny"}},
			env: []string{
				"ANTHROPIC_BASE_URL={url}", "ANTHROPIC_AUTH_TOKEN=secret", "DISABLE_TELEMETRY=1", "DISABLE_AUTOUPDATER=1", "DISABLE_ERROR_REPORTING=1",
				"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "ANTHROPIC_SMALL_FAST_MODEL=tiny",
			},
		},
		{
			name: "opencode", packages: []string{"opencode-ai@1.18.33"}, agent: "opencode", names: true,
			turns: [][]string{{opencode, "run", "--model", "wattline/tiny", "say hello"}, {opencode, "run", "--continue", "--model", "wattline/tiny", "say it again"}},
			env:   []string{"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1"},
			files: map[string]string{".config/opencode/opencode.json": `{"provider": {"wattline": {"npm": "@ai-sdk/openai-compatible", "name": "wattline",
 "options": {"baseURL": "{url}/v1", "apiKey": "secret"}, "models": {"tiny": {"name": "tiny"}}}}}`},
		},
		{
			name: "qwen-code", packages: []string{"@qwen-code/qwen-code@0.24.4"}, agent: "qwen-code",
			turns: [][]string{
				{"qwen", "--auth-type", "openai", "--openai-api-key", "secret", "--openai-base-url", "{url}/v1", "--model", "tiny", "-p", "say hello"},
				{"qwen", "--auth-type", "openai", "--openai-api-key", "secret", "--openai-base-url", "{url}/v1", "--model", "tiny", "--continue", "-p", "say it again"},
			},
		},
		{
			name: "cline", packages: []string{"cline@3.0.65"}, agent: "vercel-ai", // it tells no more than the library that it uses
			turns: [][]string{
				{"cline", "auth", "--provider", "openai", "--apikey", "secret", "--modelid", "tiny", "--baseurl", "{url}/v1"},
				{"cline", "--provider", "openai", "--model", "tiny", "--timeout", "120", "say hello"},
			},
		},
		{
			name: "continue", packages: []string{"@continuedev/cli@1.5.47"}, agent: "continue",
			turns: [][]string{{"cn", "--config", "{home}/config.yaml", "-p", "say hello"}, {"cn", "--config", "{home}/config.yaml", "--resume", "-p", "say it again"}},
			env:   []string{"CONTINUE_GLOBAL_DIR={home}/.continue", "CONTINUE_CLI_ENABLE_TELEMETRY=0"},
			files: map[string]string{"config.yaml": `name: wattline
version: 0.0.1
schema: v1
models:
  - name: tiny
    provider: openai
    model: tiny
    apiBase: "{url}/v1"
    apiKey: secret
    roles: [chat]
`},
		},
		{
			name: "pi", packages: []string{"@mariozechner/pi-coding-agent@0.73.1"}, agent: "pi", names: true,
			turns: [][]string{
				{"pi", "--provider", "wattline", "--model", "tiny", "-p", "say hello"}, {"pi", "--provider", "wattline", "--model", "tiny", "--continue", "-p", "say it again"},
			},
			env: []string{"PI_CODING_AGENT_DIR={home}/.pi/agent", "PI_OFFLINE=1", "PI_SKIP_VERSION_CHECK=1"},
			files: map[string]string{".pi/agent/models.json": `{"providers": {"wattline": {"baseUrl": "{url}/v1", "api": "openai-responses", "apiKey": "secret",
 "models": [{"id": "tiny", "name": "tiny", "reasoning": false, "input": ["text"], "contextWindow": 100000, "maxTokens": 64, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}}]}}}`},
		},
	}
}
