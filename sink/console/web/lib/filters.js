// The filters of requests: parameters of the page's address, with the names of the API.
import { html } from "./html.js";
import { change } from "./route.js";
import { flag, words } from "./copy.js";
import { exactly, sqlTime, when } from "./format.js";

export const names = ["from", "to", "since", "model", "agent", "session", "user", "route", "outcome", "dialect", "path", "status", "config_id", "energy_quality", "instance", "label", "slower_than", "first_token_after", "dearer_than", "cache_verdict", "all"];

// chosen takes the filters out of the address; anything in it that is no parameter of the page goes to the API too, which says what is wrong.
export function chosen(params, own = ["sort"]) {
  const out = new URLSearchParams();
  for (const [name, value] of params) if (!own.includes(name)) out.append(name, value);
  return out;
}

const spans = [["", "all time"], ["1h", "last hour"], ["24h", "last 24 h"], ["7d", "last 7 days"], ["30d", "last 30 days"]];
const outcomes = ["ok", "cancelled", "truncated", "upstream_error", "rejected"];
const verdicts = ["hit", "cold", "client", "server", "unknown"];
const fields = [["agent", "agent", ""], ["model", "model", ""], ["session", "session", ""], ["route", "route", ""], ["label", "label", "k=v"],
  ["slower_than", "slower than", "10s"], ["dearer_than", "dearer than", "50J"]];

// Filters also shows those in force that have no field of their own.
export function Filters({ params }) {
  const set = (name) => (e) => change({ [name]: e.target.value.trim() });
  const shown = new Set([...fields.map((f) => f[0]), "since", "outcome", "cache_verdict", "all", "sort"]);
  const select = (name, any, values) => html`<select aria-label=${name.replaceAll("_", " ")} value=${params.get(name) || ""} onChange=${set(name)}><option value="">${any}</option>${values.map((v) => html`<option key=${v} value=${v}>${v}</option>`)}</select>`;
  const others = [...params].filter(([n, v]) => !shown.has(n) || (v === "" && n !== "sort"));
  return html`<form class="filters" role="search" aria-label="filters" onSubmit=${(e) => e.preventDefault()}>
    <select aria-label="time" value=${params.get("since") || ""} onChange=${set("since")}>${spans.map(([v, t]) => html`<option key=${v} value=${v}>${t}</option>`)}
      ${params.get("since") && !spans.some(([v]) => v === params.get("since")) ? html`<option value=${params.get("since")}>since ${params.get("since")}</option>` : null}</select>
    ${select("outcome", "any outcome", outcomes)} ${select("cache_verdict", "any cache verdict", verdicts)}
    ${fields.map(([name, text, hint]) => html`<label key=${name}>${text}<input name=${name} value=${params.get(name) || ""} placeholder=${hint} onChange=${set(name)} autocomplete="off" spellcheck=${false} /></label>`)}
    <label title="health, models, counted tokens, and what wattline replay sent"><input type="checkbox" checked=${params.get("all") === "1"} onChange=${(e) => change({ all: e.target.checked ? "1" : "" })} />housekeeping and replay too</label>
    ${others.map(([name, value]) => html`<button type="button" key=${name + value} title="remove this filter" onClick=${() => change({ [name]: undefined })}>
      ${name} ${value === "" ? "not told" : name === "from" || name === "to" ? html`<span title=${exactly(value)}>${when(value)}</span>` : value} ×</button>`)}
  </form>`;
}

// work leaves housekeeping and replay's own requests out (sink/work.go).
const work = "dialect IS NOT NULL AND dialect <> 'tokenize' AND dialect <> 'count' AND (agent IS NULL OR agent <> 'wattline-replay')";
const sqlText = (v) => "'" + v.replaceAll("'", "''") + "'";
const inCommand = { since: "--since", agent: "--agent", session: "--session", model: "--model", outcome: "--outcome", slower_than: "--slower-than" };

// command is the terminal's way to the same rows: wattline requests where its flags suffice, else a query.
export function command(params, engine) {
  const all = [...chosen(params)].filter(([n]) => n !== "all"), everything = params.get("all") === "1", sort = params.get("sort") || "-started_at";
  const seen = new Set();
  const same = everything || !params.get("agent"); // requests --agent lists housekeeping too
  if (same && engine !== "clickhouse" && sort === "-started_at" && all.every(([n, v]) => inCommand[n] && v !== "" && !seen.has(n) && seen.add(n))) {
    return ["wattline requests", ...(everything ? ["--all"] : []), ...all.map(([n, v]) => flag(inCommand[n], v))].join(" ");
  }
  const groups = new Map();
  for (const [n, v] of all) groups.set(n, [...(groups.get(n) || []), v]);
  const where = everything ? [] : [work];
  for (const [n, values] of groups) {
    if (n === "from" || n === "since") where.push(`started_at >= ${sqlText(sqlTime(n === "since" ? sinceDate(values[0]) : values[0]))}`);
    else if (n === "to") where.push(`started_at < ${sqlText(sqlTime(values[0]))}`);
    else if (n === "slower_than") where.push(`duration_us > ${Math.round(duration(values[0]) * 1e3)}`);
    else if (n === "first_token_after") where.push(`ttft_us > ${Math.round(duration(values[0]) * 1e3)}`);
    else if (n === "dearer_than") where.push(`gpu_uj > ${Math.round(energy(values[0]) * 1e6)}`);
    else if (n === "label") for (const v of values) where.push(`${labelOf(v.split("=")[0], engine)} = ${sqlText(v.split("=").slice(1).join("="))}`);
    else if (/^[a-z_]+$/.test(n)) where.push("(" + values.map((v) => (v === "" ? `${n} IS NULL` : n === "status" && /^\d+$/.test(v) ? `status = ${v}` : `${n} = ${sqlText(v)}`)).join(" OR ") + ")");
  }
  const column = sort.replace(/^-/, "").replace(/[^a-z0-9_]/g, ""), by = column === "decode_tps" ? "(output_tokens - 1.0) / decode_us" : column;
  return "wattline query " + words(`SELECT ${printed} FROM requests${where.length ? " WHERE " + where.join(" AND ") : ""} ORDER BY ${by}${sort[0] === "-" ? " DESC" : ""} LIMIT 100`);
}

const printed = "started_at, id, agent, session, model, prompt_tokens, cached_tokens, output_tokens, ttft_us, duration_us, gpu_uj, gpu_sigma_uj, outcome";
const labelOf = (name, engine) => (engine === "clickhouse" ? `labels[${sqlText(name)}]` : `json_extract(labels, ${sqlText("$." + JSON.stringify(name))})`);

function sinceDate(text) {
  const m = /^(\d+)(m|h|d)$/.exec(text);
  return m ? new Date(Date.now() - m[1] * { m: 6e4, h: 36e5, d: 864e5 }[m[2]]).toISOString() : text;
}
const duration = (text) => { const m = /^([\d.]+)(ms|s|m)?$/.exec(text); return m ? m[1] * { ms: 1, s: 1000, m: 60000 }[m[2] || "s"] : 0; };
const energy = (text) => { const m = /^([\d.]+)(kJ|J|Wh|kWh)?$/.exec(text); return m ? m[1] * { J: 1, kJ: 1000, Wh: 3600, kWh: 3.6e6 }[m[2] || "J"] : 0; };
