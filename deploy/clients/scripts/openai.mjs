// Two turns of a chat, streamed: the second begins with the first.
import OpenAI from "openai";

const openai = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "secret", maxRetries: 0 });
const messages = [{ role: "user", content: "say hello" }];
for (const next of ["say it again", ""]) {
  let text = "";
  for await (const e of await openai.chat.completions.create({ model: "tiny", messages, stream: true })) text += e.choices[0]?.delta?.content ?? "";
  messages.push({ role: "assistant", content: text }, { role: "user", content: next });
}
