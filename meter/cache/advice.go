package cache

import "wattline/meter/prompt"

// Advice says what to do about a cause, in one sentence, with flags of llama-server (a test asks a running server's --help for
// them) or a public address; "" for what is no loss.
func Advice(cause string) string { return advice[cause] }

//nolint:gochecknoglobals // a constant table
var advice = map[string]string{
	prompt.VolatileLine:     "Move the line that changes behind everything that stays: into the last message, or turn it off in the client (Claude Code: \"CLAUDE_CODE_ATTRIBUTION_HEADER\": \"0\" under \"env\" of ~/.claude/settings.json, https://github.com/anthropics/claude-code/issues/24168).",
	prompt.SettingsChanged:  "Send the same template settings (reasoning_effort, chat_template_kwargs, tool_choice) in every turn of a session.",
	prompt.ToolsChanged:     "Offer the same tools in every turn, and load further ones at the start of a session: a server puts them before the conversation.",
	prompt.ToolsReordered:   "Sort the tools, by name for example: clients that ask MCP servers list them in the order of the answers.",
	prompt.SystemChanged:    "Keep the system prompt of a session as it is, and send news in a message at the end.",
	prompt.HistoryEdited:    "Send earlier messages as they were: everything behind an edited one is computed again.",
	prompt.HistoryCompacted: "Compact seldom and much at once, or give the slot more context with --ctx-size and fewer slots with --parallel.",
	prompt.ReasoningDropped: "Send the reasoning back as it came, or never: with --reasoning-format none it stays in the content.",
	prompt.MessageInserted:  "Append messages at the end only: everything behind an inserted one is computed again.",
	prompt.MessageMoved:     "Leave a reminder where it was first sent, or send it as the last message only.",
	prompt.ImageReencoded:   "Send an image's bytes as they were sent first: the server knows an image by its bytes.",
	prompt.Reserialised:     "Send tool calls and tools as text that is kept, not serialised anew: white space and the order of members are part of the prompt.",
	CachePromptFalse:        "Leave cache_prompt out of the request, or set it to true.",
	Restarted:               "Nothing is kept over a restart unless it is saved: --slot-save-path and POST /slots/ID?action=save; --sleep-idle-seconds -1 does not unload the model.",
	SlotTaken:               "Give the server a slot for each session (--parallel), or room for prompts that lost theirs (--cache-ram, in MiB).",
	PromptCacheOff:          "Start the server with --cache-ram above 0 (MiB), or a slot for each session (--parallel).",
	PromptCacheFull:         "Give prompts more room in RAM (--cache-ram, in MiB), or the server a slot for each session (--parallel).",
	SlotChosen:              "Lower --slot-prompt-similarity so that the slot that knows the prompt is taken, or name it with id_slot in the request.",
	ContextShifted:          "Give the slot more context (--ctx-size, or fewer slots with --parallel), or compact earlier in the client.",
	NotCutBack:              "For a model with a sliding window start the server with --swa-full, for others of the kind keep more checkpoints (--ctx-checkpoints).",
	Undetermined:            "Run wattline serve with --slots on, and the server with --slots, so that slots are known.",
}
