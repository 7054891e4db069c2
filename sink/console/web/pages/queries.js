// Queries: the named ones, each as a table and as the chart that suits it, and a box for one SELECT of your own.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { change, go, href } from "../lib/route.js";
import { useAsk } from "../lib/api.js";
import { digits, none, span } from "../lib/format.js";
import { Late, Section } from "../lib/parts.js";
import { Copy, flag, words } from "../lib/copy.js";
import { Picture } from "./picture.js";

const sinces = [["", "all rows"], ["24h", "24 h"], ["7d", "7 days"], ["30d", "30 days"]];
const examples = { sqlite: "SELECT agent, count(*) AS n, sum(gpu_j) AS joules FROM efficiency GROUP BY agent ORDER BY joules DESC", clickhouse: "SELECT agent, count() AS n, sum(gpu_j) AS joules FROM efficiency GROUP BY agent ORDER BY joules DESC" };

export default function Queries({ route, hello }) {
  const list = useAsk("/api/query");
  const name = route.id, sql = route.params.get("sql"), since = route.params.get("since") || "";
  const label = route.params.get("label") || "", all = route.params.get("all") === "1";
  const asked = sql ? { sql } : name ? { name, ...(since && { since }), ...(label && { label }), ...(all && { all: 1 }) } : null;
  const answer = useAsk(asked ? "/api/query" : null, asked);
  return html`<h1>Queries</h1>
    <div class="queries"><${Section} title="Questions">
      ${list.error ? html`<p class="problem" role="alert">${list.error.message}</p>` : html`<ul class="list">${(list.data || []).map((q) => html`<li key=${q.name}><a href=${href("queries", q.name, { since })} aria-current=${q.name === name && !sql ? "page" : null}>${q.question}<small>${q.name}</small></a></li>`)}</ul>`}<//>
    <div><${Box} sql=${sql || answer.data?.sql || ""} hello=${hello} key=${sql || name} />
    ${asked ? html`<${Answer} answer=${answer} title=${sql ? "Your query" : (list.data || []).find((q) => q.name === name)?.question || name} sql=${sql} name=${name} since=${since} label=${label} all=${all} />`
      : html`<p class="soft">Choose a question, or write one SELECT. It only reads, and is cancelled after a minute.</p>`}</div></div>`;
}

// Box is the SQL box: what runs is in the address.
function Box({ sql, hello }) {
  const box = useRef(null);
  useEffect(() => { if (box.current && sql && !box.current.value) box.current.value = sql.trim(); }, [sql]);
  const run = () => { const text = box.current.value.trim(); if (text) go(href("queries", "", { sql: text })); };
  return html`<${Section} title="SQL" note=${html`one SELECT on requests, efficiency, power, ledger, configs (${hello.engine}) · Ctrl+Enter runs it`}>
    <textarea ref=${box} rows="4" spellcheck=${false} aria-label="SQL" placeholder=${examples[hello.engine] || examples.sqlite} defaultValue=${sql.trim()}
      onKeyDown=${(e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); run(); } }}></textarea>
    <p><button type="button" onClick=${run}>Run</button></p><//>`;
}

function Answer({ answer, title, sql, name, since, label, all }) {
  const [sort, setSort] = useState(null);
  const command = sql ? `wattline query ${words(sql)}` : ["wattline query", flag("--name", name), since && flag("--since", since), label && flag("--label", label), all && "--all"].filter(Boolean).join(" ");
  const since_ = !sql && html`<label class="soft">since <select value=${since} onChange=${(e) => change({ since: e.target.value })}>${sinces.map(([v, t]) => html`<option key=${v} value=${v}>${t}</option>`)}</select></label>
    <label class="soft" title="health, models, counted tokens, and what wattline replay sent"><input type="checkbox" checked=${all} onChange=${(e) => change({ all: e.target.checked ? "1" : "" })} /> housekeeping and replay too</label>
    ${name === "ab" || label ? html` <label class="soft">label <input value=${label} placeholder="variant" onChange=${(e) => change({ label: e.target.value.trim() })} /></label>` : null}`;
  if (answer.error) return html`<${Section} title=${title} tools=${html`<span>${since_}</span>`}><p class="problem" role="alert">${answer.error.message}</p><//>`;
  const d = answer.data;
  if (!d || !d.columns) return html`<${Section} title=${title}><${Late}><p class="soft">running…</p><//><//>`;
  const rows = sort === null ? d.rows : [...d.rows].sort((a, b) => compare(a[Math.abs(sort) - 1], b[Math.abs(sort) - 1]) * Math.sign(sort));
  const numeric = d.columns.map((_, i) => d.rows.some((r) => typeof r[i] === "number") && d.rows.every((r) => r[i] === null || typeof r[i] === "number"));
  return html`<${Section} title=${title} note=${`${d.rows.length}${d.truncated ? " rows, cut off there" : d.rows.length === 1 ? " row" : " rows"} in ${span(d.elapsed_us)}`}
      tools=${html`<span>${since_}<${Copy} command=${command} name=${name || "query"} table=${() => ({ columns: d.columns, rows })} /></span>`}>
    <div class=${answer.stale ? "stale" : ""}><${Picture} columns=${d.columns} rows=${d.rows} numeric=${numeric} />
    ${d.rows.length ? html`<div class="scroll tall" tabindex="0" role="region" aria-label="table of the result"><table><thead><tr>${d.columns.map((c, i) => html`<th key=${i} class=${numeric[i] ? "r" : ""} aria-sort=${sort === i + 1 ? "ascending" : sort === -i - 1 ? "descending" : null}>
      <button type="button" onClick=${() => setSort(sort === -i - 1 ? i + 1 : -i - 1)}>${c}${sort === i + 1 ? " ↑" : sort === -i - 1 ? " ↓" : ""}</button></th>`)}</tr></thead>
      <tbody>${rows.slice(0, 1000).map((r, k) => html`<tr key=${k}>${r.map((v, i) => html`<td key=${i} class=${numeric[i] ? "r" : ""} title=${v === null ? "null" : String(typeof v === "object" ? JSON.stringify(v) : v)}>${shown(v)}</td>`)}</tr>`)}</tbody></table></div>
      ${rows.length > 1000 ? html`<p class="soft">The first 1000 rows are shown; CSV has all ${rows.length}.</p>` : null}` : html`<p class="soft">No rows.</p>`}</div><//>`;
}

const shown = (v) => (v === null || v === undefined ? html`<span class="pm">${none}</span>` : typeof v === "number" ? (Number.isInteger(v) && Math.abs(v) < 1e15 ? String(v).replace(/\B(?=(\d{3})+$)/g, Math.abs(v) > 9999 ? "\u2009" : "") : digits(v)) : typeof v === "object" ? JSON.stringify(v) : String(v));
const compare = (a, b) => (a === null ? 1 : b === null ? -1 : typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1);
