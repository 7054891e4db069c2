// The table of Live: running requests on top, each finishes in place; what is new waits while somebody reads.
import { html, useRef, useState } from "../lib/html.js";
import { go, href } from "../lib/route.js";
import { live, now } from "../lib/live.js";
import { Energy, at, costOf, count, digits, exactly, joules, money, none, smallest, span } from "../lib/format.js";
import { Model, Outcome, Section, Who, short } from "../lib/parts.js";
import { Copy } from "../lib/copy.js";

const shown = 40;

// newest is the order in which rows would stand now: running ones, then finished ones, each the newest first.
function newest() {
  const sorted = (map) => [...map.values()].sort((a, b) => at(b.started_at) - at(a.started_at));
  return [...sorted(live.requests), ...sorted(live.rows)].slice(0, shown).map((r) => r.id);
}

export function LiveTable({ hello, by }) {
  const order = useRef({ seen: -1, ids: [] });
  const [reading, setReading] = useState(false);
  const next = order.current.seen === live.comers ? order.current.ids : newest();
  const fresh = reading ? next.filter((id) => !order.current.ids.includes(id)).length : 0;
  const adopt = () => { order.current = { seen: live.comers, ids: next }; };
  if (!reading || !order.current.ids.length) adopt();
  const ids = order.current.ids.filter((id) => live.rows.has(id) || live.requests.has(id));
  const spent = soFar();
  const priced = hello.price_per_kwh_micro !== null && hello.price_per_kwh_micro !== undefined;
  return html`<${Section} title="Requests" note="running on top; each row finishes in place"
      tools=${html`<span>${fresh > 0 && html`<button type="button" onClick=${adopt}>${fresh} new</button> `}
        <a href=${href("requests")}>all requests</a><${Copy} command="wattline requests --follow" table=${() => tableOf(ids)} name="live" /></span>`}>
    <div class="scroll" tabindex="0" role="region" aria-label="requests of the last minutes" onPointerEnter=${() => setReading(true)} onPointerLeave=${() => setReading(false)}>
    <table><thead><tr><th>${by}</th><th class="wide">${by === "session" ? "agent" : "session"}</th><th class="wide">model</th><th class="r wide">in</th><th class="r wide">cached</th>
      <th class="r">out</th><th class="r">first token</th><th class="r wide">tokens/s</th><th class="r">energy</th>${priced && html`<th class="r wide">cost</th>`}<th>state</th></tr></thead>
    <tbody>${ids.map((id) => html`<${Row} key=${id} row=${live.rows.get(id)} open=${live.requests.get(id)} by=${by} priced=${priced && hello.currency} spent=${spent.get(id)} />`)}</tbody></table>
    ${ids.length ? null : html`<p class="soft">No requests in the last minutes: point a client at ${hello.routes?.[0]?.url || "wattline"}</p>`}</div><//>`;
}

function Row({ row, open, by, priced, spent }) {
  const r = row || open, running = !row && !open.done;
  const cells = row ? rowCells(row) : openCells(open, spent);
  const to = row ? href("requests", row.id) : null;
  return html`<tr class=${running ? "now" : row && row.outcome !== "ok" ? "bad" : ""} data-id=${r.id} data-phase=${row ? "row" : open.done ? "done" : open.phase}
      title=${exactly(r.started_at)} onClick=${to ? (e) => { if (!e.target.closest("a")) go(to); } : null}>
    <td>${to ? html`<a href=${to}><${Who} name=${short(r[by])} of=${r[by]} /></a>` : html`<${Who} name=${short(r[by])} of=${r[by]} />`}</td>
    <td class="wide">${short(by === "session" ? r.agent : r.session) || none}</td><td class="wide"><${Model} name=${r.model} /></td>
    <td class="r wide">${cells.in}</td><td class="r wide">${cells.cached}</td><td class="r">${cells.out}</td><td class="r">${cells.first}</td><td class="r wide">${cells.rate}</td>
    <td class="r">${cells.energy}</td>${priced !== false && html`<td class="r wide">${row ? money(costOf(row), priced) : none}</td>`}
    <td>${cells.tag}</td></tr>`;
}

function rowCells(row) {
  return {
    in: count(row.prompt_tokens), cached: count(row.cached_tokens),
    out: row.output_tokens === null && row.output_events ? html`<span class="pm" title="the server gave no count: so many events had output">≥ ${count(row.output_events)}</span>` : count(row.output_tokens),
    first: span(row.ttft_us), rate: digits(row.decode_us && row.output_tokens > 1 ? ((row.output_tokens - 1) * 1e6) / row.decode_us : null),
    energy: html`<${Energy} row=${row} />`, tag: html`<${Outcome} row=${row} />`,
  };
}

function openCells(r, spent) {
  const first = r.phases.find((p) => p.phase === "decode");
  const words = { sending: "sending", queue: "waiting", prefill: "reading", decode: "decoding" };
  return {
    in: none, cached: none, out: r.output_events ? count(r.output_events) + "…" : none,
    first: first ? span((at(first.at) - at(r.started_at)) * 1000) : r.done ? none : html`<span class="pm">${span(Math.max(0, now() - at(r.started_at)) * 1000)}…</span>`,
    rate: digits(r.events_per_second || null),
    energy: spent ? html`<span class="pm" title="provisional: its active share so far, without its share of the idle draw">≈ ${joules(spent)}</span>` : none,
    tag: html`<span class="tag">${r.done ? "ending" : words[r.phase] || r.phase}</span>`,
  };
}

// soFar adds up the active share of running requests, in microjoules.
function soFar() {
  const out = new Map();
  if (!live.requests.size) return out;
  const since = smallest([...live.requests.values()].map((r) => at(r.started_at)));
  for (const d of live.devices.values()) {
    for (let i = Math.max(Math.floor(since / d.step), d.last - 3300); i <= d.last; i++) {
      for (const [id, mw] of d.at.get(i)?.parts || []) if (live.requests.has(id)) out.set(id, (out.get(id) || 0) + mw * d.step);
    }
  }
  return out;
}

function tableOf(ids) {
  const columns = ["id", "started_at", "agent", "session", "model", "prompt_tokens", "cached_tokens", "output_tokens", "ttft_us", "duration_us", "gpu_uj", "gpu_sigma_uj", "energy_quality", "outcome"];
  return { columns, rows: ids.map((id) => live.rows.get(id)).filter(Boolean).map((r) => columns.map((c) => r[c])) };
}
