// Two turns of a chat, streamed: the second begins with the first.
import { streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const model = createOpenAICompatible({ name: "wattline", baseURL: process.argv[2] + "/v1", apiKey: "secret" })("tiny");
const messages = [{ role: "user", content: "say hello" }];
for (const next of ["say it again", ""]) {
  const text = await streamText({ model, messages, maxRetries: 0, onError: ({ error }) => { throw error; } }).text;
  messages.push({ role: "assistant", content: text }, { role: "user", content: next });
}
