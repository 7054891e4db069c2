// Two turns of a chat: the second begins with the first. A llama-server without Ollama's routes answers 404.
import { Ollama } from "ollama";

const ollama = new Ollama({ host: process.argv[2] });
const messages = [{ role: "user", content: "say hello" }];
for (const next of ["say it again", ""]) {
  let text = "";
  try {
    text = (await ollama.chat({ model: "tiny", messages, stream: false })).message?.content ?? "";
  } catch (e) {
    if (e.status_code !== 404) throw e;
  }
  messages.push({ role: "assistant", content: text }, { role: "user", content: next });
}
