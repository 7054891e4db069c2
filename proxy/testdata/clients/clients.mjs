// Two real clients through wattline: node clients.mjs URL URL-OF-A-MODEL-THAT-CALLS-TOOLS. Each step's
// findings are one member of the object that is printed; the Go test judges them. X-Request-Id names each
// request's row.
import OpenAI from "openai";
import Anthropic from "@anthropic-ai/sdk";

const [url, toolsURL] = process.argv.slice(2);
const messages = [{ role: "user", content: "write\nsome code" }];
const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
const named = (id, more = {}) => ({ headers: { "X-Request-Id": id }, ...more });

const newOpenAI = (base) => new OpenAI({ baseURL: base + "/v1", apiKey: "secret", maxRetries: 0 });
const newAnthropic = (base) => new Anthropic({ baseURL: base, apiKey: "secret", maxRetries: 0 });
const openai = newOpenAI(url), anthropic = newAnthropic(url);

const steps = {
  async "openai-models"() {
    const list = await openai.models.list(named("openai-models"));
    return { models: list.data.length };
  },
  async "openai-whole"() {
    const r = await openai.chat.completions.create({ model: "m", messages, max_tokens: 20, ignore_eos: true }, named("openai-whole"));
    return { tokens: r.usage.completion_tokens, finish: r.choices[0].finish_reason };
  },
  async "openai-stream"() {
    const stream = await openai.chat.completions.create(
      { model: "m", messages, max_tokens: 40, ignore_eos: true, stream: true, stream_options: { include_usage: true } }, named("openai-stream"));
    let text = "", usage, finish;
    for await (const e of stream) {
      text += e.choices[0]?.delta?.content ?? "";
      finish = e.choices[0]?.finish_reason ?? finish;
      usage = e.usage ?? usage;
    }
    return { text: text.length, tokens: usage.completion_tokens, finish };
  },
  async "openai-completions"() {
    const stream = await openai.completions.create({ model: "m", prompt: "write", max_tokens: 12, ignore_eos: true, stream: true }, named("openai-completions"));
    let text = "";
    for await (const e of stream) text += e.choices[0].text;
    return { text: text.length };
  },
  async "openai-responses"() {
    const stream = await openai.responses.create({ model: "m", input: "write", max_output_tokens: 12, stream: true }, named("openai-responses"));
    let last;
    for await (const e of stream) last = e;
    return { type: last.type, tokens: last.response.usage.output_tokens };
  },
  async "openai-tools"() {
    const stream = await newOpenAI(toolsURL).chat.completions.create({
      model: "m", messages, max_tokens: 500, stream: true, tool_choice: "required",
      tools: [{ type: "function", function: { name: "get_weather", parameters: schema } }],
    }, named("openai-tools"));
    let name = "", args = "";
    for await (const e of stream) {
      for (const c of e.choices[0]?.delta?.tool_calls ?? []) {
        name += c.function?.name ?? "";
        args += c.function?.arguments ?? "";
      }
    }
    return { name, n: typeof JSON.parse(args).n };
  },
  async "openai-abort"() {
    const abort = new AbortController();
    const stream = await openai.chat.completions.create(
      { model: "m", messages, max_tokens: 100000, ignore_eos: true, stream: true }, named("openai-abort", { signal: abort.signal }));
    let events = 0;
    for await (const e of stream) {
      if (e.choices[0]?.delta?.content && ++events === 3) abort.abort();
    }
    return { events };
  },
  async "openai-error"() {
    try {
      await openai.chat.completions.create({ model: "m", messages: "none" }, named("openai-error"));
    } catch (e) {
      return { name: e.constructor.name, status: e.status };
    }
  },
  async "anthropic-whole"() {
    const r = await anthropic.messages.create({ model: "m", messages, max_tokens: 20 }, named("anthropic-whole"));
    return { tokens: r.usage.output_tokens, role: r.role };
  },
  async "anthropic-stream"() {
    const stream = anthropic.messages.stream({ model: "m", messages, max_tokens: 40 }, named("anthropic-stream"));
    let text = 0;
    stream.on("text", (t) => (text += t.length));
    const final = await stream.finalMessage();
    return { text, tokens: final.usage.output_tokens, stop: final.stop_reason };
  },
  async "anthropic-tools"() {
    const stream = newAnthropic(toolsURL).messages.stream({
      model: "m", messages, max_tokens: 500, tool_choice: { type: "any" }, tools: [{ name: "get_weather", input_schema: schema }],
    }, named("anthropic-tools"));
    const final = await stream.finalMessage();
    const use = final.content.find((c) => c.type === "tool_use");
    return { name: use?.name, n: typeof use?.input?.n, stop: final.stop_reason };
  },
  async "anthropic-abort"() {
    const stream = anthropic.messages.stream({ model: "m", messages, max_tokens: 100000, ignore_eos: true }, named("anthropic-abort"));
    let events = 0;
    stream.on("text", () => { if (++events === 3) stream.abort(); });
    try {
      await stream.done();
      return { events, error: "it ended by itself" };
    } catch (e) {
      return { events, name: e.constructor.name };
    }
  },
  async "anthropic-count"() {
    const r = await anthropic.messages.countTokens({ model: "m", messages }, named("anthropic-count"));
    return { tokens: r.input_tokens };
  },
};

const report = {};
for (const [name, step] of Object.entries(steps)) {
  try {
    report[name] = await step();
  } catch (e) {
    report[name] = { error: String(e) };
  }
}
console.log(JSON.stringify(report));
process.exit(0);
