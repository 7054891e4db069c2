// Two turns of a chat: the second begins with the first.
import { ChatOpenAI } from "@langchain/openai";

const chat = new ChatOpenAI({ model: "tiny", apiKey: "secret", maxRetries: 0, configuration: { baseURL: process.argv[2] + "/v1" } });
const messages = [["user", "say hello"]];
for (const next of ["say it again", ""]) {
  const reply = await chat.invoke(messages);
  messages.push(["assistant", String(reply.content)], ["user", next]);
}
