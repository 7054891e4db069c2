// Two turns of an agent: the second begins with the first.
import OpenAI from "openai";
import { Agent, run, setDefaultOpenAIClient, setOpenAIAPI, setTracingDisabled } from "@openai/agents";

setTracingDisabled(true);
setDefaultOpenAIClient(new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "secret", maxRetries: 0 }));
setOpenAIAPI("chat_completions");
const agent = new Agent({ name: "helper", instructions: "be kind", model: "tiny" });
const first = await run(agent, "say hello");
await run(agent, [...first.history, { role: "user", content: "say it again" }]);
