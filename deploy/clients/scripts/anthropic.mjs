// Two turns of a chat, streamed: the second begins with the first.
import Anthropic from "@anthropic-ai/sdk";

const anthropic = new Anthropic({ baseURL: process.argv[2], apiKey: "secret", maxRetries: 0 });
const messages = [{ role: "user", content: "say hello" }];
for (const next of ["say it again", ""]) {
  const reply = await anthropic.messages.stream({ model: "tiny", max_tokens: 48, messages }).finalMessage();
  messages.push({ role: "assistant", content: reply.content.map((c) => c.text ?? "").join("") }, { role: "user", content: next });
}
