// The filters of requests: parameters of the page's address, with the names of the API.
import { html } from "./html.js";
import { change } from "./route.js";
import { quoted } from "./copy.js";
import { exactly, sqlTime, when } from "./format.js";

export const names = ["from", "to", "since", "model", "agent", "session", "user", "route", "outcome", "dialect", "path", "status", "config_id", "energy_quality", "instance", "label", "slower_than", "first_token_after", "dearer_than", "cache_verdict"];

// chosen takes the filters out of the address; anything in it that is no parameter of the page goes to the API too, which says what is wrong.
export function chosen(params, own = ["sort"]) {
  const out = new URLSearchParams();
  for (const [name, value] of params) if (!own.includes(name)) out.append(name, value);
  return out;
}

const spans = [["", "all time"], ["1h", "last hour"], ["24h", "last 24 h"], ["7d", "last 7 days"], ["30d", "last 30 days"]];
const outcomes = ["ok", "cancelled", "truncated", "upstream_error", "rejected"];
const fields = [["agent", "agent", ""], ["model", "model", ""], ["session", "session", ""], ["route", "route", ""], ["label", "label", "k=v"],
  ["slower_than", "slower than", "10s"], ["dearer_than", "dearer than", "50J"]];

// Filters also shows those in force that have no field of their own.
export function Filters({ params }) {
  const set = (name) => (e) => change({ [name]: e.target.value.trim() });
  const shown = new Set([...fields.map((f) => f[0]), "since", "outcome", "sort"]);
  const others = [...params].filter(([n, v]) => !shown.has(n) || (v === "" && n !== "sort"));
  return html`<form class="filters" role="search" aria-label="filters" onSubmit=${(e) => e.preventDefault()}>
    <select aria-label="time" value=${params.get("since") || ""} onChange=${set("since")}>${spans.map(([v, t]) => html`<option key=${v} value=${v}>${t}</option>`)}
      ${params.get("since") && !spans.some(([v]) => v === params.get("since")) ? html`<option value=${params.get("since")}>since ${params.get("since")}</option>` : null}</select>
    <select aria-label="outcome" value=${params.get("outcome") || ""} onChange=${set("outcome")}><option value="">any outcome</option>${outcomes.map((o) => html`<option key=${o} value=${o}>${o}</option>`)}</select>
    ${fields.map(([name, text, hint]) => html`<label key=${name}>${text}<input name=${name} value=${params.get(name) || ""} placeholder=${hint} onChange=${set(name)} autocomplete="off" spellcheck=${false} /></label>`)}
    ${others.map(([name, value]) => html`<button type="button" key=${name + value} title="remove this filter" onClick=${() => change({ [name]: undefined })}>
      ${name} ${value === "" ? "not told" : name === "from" || name === "to" ? html`<span title=${exactly(value)}>${when(value)}</span>` : value} ×</button>`)}
  </form>`;
}

const sqlText = (v) => "'" + v.replaceAll("'", "''") + "'";
const inCommand = { since: "--since", agent: "--agent", session: "--session", model: "--model", outcome: "--outcome", slower_than: "--slower-than" };

// command is the terminal's way to the same rows: wattline requests where its flags suffice, else a query.
export function command(params) {
  const all = [...chosen(params)], sort = params.get("sort") || "-started_at";
  const seen = new Set();
  if (sort === "-started_at" && all.every(([n, v]) => inCommand[n] && v !== "" && !seen.has(n) && seen.add(n))) {
    return ["wattline requests", ...all.map(([n, v]) => `${inCommand[n]} ${quoted(v)}`)].join(" ");
  }
  const groups = new Map();
  for (const [n, v] of all) groups.set(n, [...(groups.get(n) || []), v]);
  const where = [];
  for (const [n, values] of groups) {
    if (n === "from" || n === "since") where.push(`started_at >= ${sqlText(sqlTime(n === "since" ? sinceDate(values[0]) : values[0]))}`);
    else if (n === "to") where.push(`started_at < ${sqlText(sqlTime(values[0]))}`);
    else if (n === "slower_than") where.push(`duration_ms > ${duration(values[0])}`);
    else if (n === "first_token_after") where.push(`ttft_ms > ${duration(values[0])}`);
    else if (n === "dearer_than") where.push(`gpu_j > ${energy(values[0])}`);
    else if (n === "label") for (const v of values) where.push(`json_extract(labels, ${sqlText("$." + JSON.stringify(v.split("=")[0]))}) = ${sqlText(v.split("=").slice(1).join("="))}`);
    else if (/^[a-z_]+$/.test(n)) where.push("(" + values.map((v) => (v === "" ? `${n} IS NULL` : `${n} = ${sqlText(v)}`)).join(" OR ") + ")");
  }
  const column = sort.replace(/^-/, "").replace(/[^a-z0-9_]/g, "");
  return "wattline query " + quoted(`SELECT * FROM efficiency${where.length ? " WHERE " + where.join(" AND ") : ""} ORDER BY ${column}${sort[0] === "-" ? " DESC" : ""} LIMIT 100`);
}

function sinceDate(text) {
  const m = /^(\d+)(m|h|d)$/.exec(text);
  return m ? new Date(Date.now() - m[1] * { m: 6e4, h: 36e5, d: 864e5 }[m[2]]).toISOString() : text;
}
const duration = (text) => { const m = /^([\d.]+)(ms|s|m)?$/.exec(text); return m ? m[1] * { ms: 1, s: 1000, m: 60000 }[m[2] || "s"] : 0; };
const energy = (text) => { const m = /^([\d.]+)(kJ|J|Wh|kWh)?$/.exec(text); return m ? m[1] * { J: 1, kJ: 1000, Wh: 3600, kWh: 3.6e6 }[m[2] || "J"] : 0; };
