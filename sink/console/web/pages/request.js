// One request: a waterfall with its marks and formulas, the gaps between its tokens, its energy with error and quality, who
// ran beside it, and its siblings in the session.
import { html, useEffect, useState } from "../lib/html.js";
import { href } from "../lib/route.js";
import { useAsk } from "../lib/api.js";
import { phasesOf } from "../lib/live.js";
import { Energy, PlusMinus, at, costOf, count, digits, energyOf, exactly, joules, largest, money, none, qualities, span, sqlTime, when } from "../lib/format.js";
import { ink } from "../lib/colour.js";
import { Bars, Gantt, Parts } from "../lib/gantt.js";
import { marksOn, useMarks } from "../lib/configs.js";
import { Loaded, Model, Outcome, Section, Stat, Who, short } from "../lib/parts.js";
import { Copy, words } from "../lib/copy.js";

export default function Request({ id, hello }) {
  const [every, setEvery] = useState(0);
  const answer = useAsk(`/api/requests/${encodeURIComponent(id)}/context`, null, every);
  const pending = answer.data?.request.energy_quality === "pending";
  useEffect(() => setEvery(pending ? 2000 : 0), [pending]); // until its joules have settled
  return html`<p><a href=${href("requests")}>← requests</a></p>
    ${answer.error && html`<h1>Request ${id}</h1>`}<${Loaded} of=${answer}>${(c) => html`<${Detail} c=${c} hello=${hello} />`}<//>`;
}

function Detail({ c, hello }) {
  const r = c.request;
  const priced = costOf(r), start = at(r.started_at);
  const changes = useMarks(start, start + (r.duration_us || 0) / 1000 + 1);
  return html`<h1><${Who} name=${r.agent} /> <${Model} name=${r.model || r.path} /> <small>${when(r.started_at)} · ${r.route} · <span title="id">${r.id}</span></small> <${Outcome} row=${r} /></h1>
    ${r.error && html`<p class="problem">${r.error}</p>`}
    <div class="figures">
      <${Stat} name="First token" title=${c.formulas?.ttft_us}>${span(r.ttft_us)}<//>
      <${Stat} name="Duration" title=${c.formulas?.duration_us}>${span(r.duration_us)}<//>
      <${Stat} name="Prompt" note=${r.cached_tokens === null ? "tokens" : `${count(r.cached_tokens)} cached`} title="tokens of the prompt, and how many of them were reused from the cache">${count(r.prompt_tokens)}<//>
      <${Stat} name="Output" note=${`tokens · ${digits(c.efficiency?.decode_tps ?? null)}/s`}>${count(r.output_tokens)}<//>
      <${Stat} name="Energy" note=${priced === null ? "" : money(priced, hello.currency)}><${Energy} row=${r} /><//>
      <${Stat} name="Energy per token" title="joules / output tokens">${energyOf(r) && r.output_tokens ? html`<${PlusMinus} value=${energyOf(r) / 1e6 / r.output_tokens} sigma=${(r.gpu_sigma_uj || 0) / 1e6 / r.output_tokens} />` : none}<//>
    </div>
    <${Section} title="Time" note="since the request's head had been read" tools=${html`<${Copy} command=${"wattline requests " + words(r.id)} name=${"request-" + r.id} table=${() => ({ columns: ["mark", "at_us", "means"], rows: c.marks.map((m) => [m.mark, m.at_us, m.means]) })} />`}>
      <${Waterfall} c=${c} changes=${marksOn(changes, start, 0.001)} />
      <details><summary class="soft">marks and formulas</summary><div class="scroll" tabindex="0" role="region" aria-label="marks and formulas"><table><thead><tr><th>mark</th><th class="r">at</th><th>means</th></tr></thead>
        <tbody>${c.marks.map((m) => html`<tr key=${m.mark}><td>${m.mark}</td><td class="r" title=${`${m.at_us} µs`}>${span(m.at_us)}</td><td class="wrap">${m.means}</td></tr>`)}
        ${c.phases.map((p) => html`<tr key=${"p" + p.phase}><td>${p.phase}</td><td class="r" title=${p.length_us === null ? "" : `${p.length_us} µs`}>${span(p.length_us)}</td><td class="wrap">${p.formula}${p.source ? ` (from ${p.source})` : ""}</td></tr>`)}</tbody></table></div></details>
    <//>
    ${c.gaps_us && c.gaps_us.length > 0 && html`<${Section} title="Between tokens" note=${`${c.gaps_us.length} gaps, median ${span(median(c.gaps_us))}, longest ${span(largest(c.gaps_us))}`}
      tools=${html`<${Copy} command=${`wattline query ${words(`SELECT gaps_us FROM itl_gaps WHERE id = '${r.id}'`)}`} name=${"gaps-" + r.id} table=${() => ({ columns: ["token", "gap_us"], rows: c.gaps_us.map((g, i) => [i + 2, g]) })} />`}><${Gaps} gaps=${c.gaps_us} /><//>`}
    <${EnergyOf} r=${r} c=${c} />
    ${r.cache_verdict && html`<${Reuse} r=${r} advice=${c.cache_advice} />`}
    ${c.overlapping.length > 0 && html`<${Section} title="Beside it" note="requests that ran while it did"
      tools=${html`<${Copy} command=${beside(r)} name=${"beside-" + r.id} table=${() => rowTable(c.overlapping)} />`}><${Neighbours} r=${r} others=${c.overlapping} changes=${marksOn(changes)} />
      ${(c.overlapping_more || c.overlapping.length > most) && html`<p class="soft">The first ${Math.min(most, c.overlapping.length)} are shown; <a href=${href("requests", "", around(r))}>the table of requests</a> has all that began meanwhile.</p>`}<//>`}
    ${r.session && html`<${Section} title="Its session" note=${html`<a href=${href("sessions", r.session)}>${short(r.session)}</a>`}
      tools=${html`<${Copy} command=${`wattline session ${words(r.session)}`} name="session" table=${() => rowTable(c.siblings)} />`}><${Siblings} r=${r} rows=${c.siblings} />
      ${c.siblings_more && html`<p class="soft">The ${c.siblings.length} around this one are shown; <a href=${href("requests", "", { session: r.session, sort: "started_at", all: 1 })}>the table of requests</a> has all of the session.</p>`}<//>`}
    <details><summary class="soft">all columns of the row</summary><${Copy} command=${"wattline requests --json " + words(r.id)} name=${"row-" + r.id}
      table=${() => ({ columns: ["column", "value"], rows: Object.entries(r) })} /><${Columns} r=${r} formulas=${c.formulas || {}} efficiency=${c.efficiency || {}} /></details>`;
}

function Waterfall({ c, changes }) {
  const end = Math.max(c.request.duration_us || 0, ...c.phases.map((p) => p.to_us), ...c.marks.map((m) => m.at_us), 1);
  const words = { load: "loading the model", queue: "waiting", prefill: "prefill", decode: "decode" };
  return html`<div class="waterfall"><ol class="marked" aria-hidden="true">${c.phases.map((p) => html`<li key=${p.phase}>${words[p.phase] || p.phase} <span class="pm">${span(p.length_us)}</span></li>`)}</ol>
    <${Gantt} name=${`waterfall: ${c.phases.map((p) => `${p.phase} ${span(p.length_us)}`).join(", ")}`} from=${0} to=${end} label=${(v) => (v ? span(v) : "0")} marks=${[...c.marks, ...changes]}
      lines=${c.phases.map((p) => ({ spans: p.from_us === null || p.to_us === null ? [] : [{ phase: p.phase in words ? p.phase : "other", from: p.from_us, to: p.to_us, title: `${p.phase}: ${span(p.length_us)} = ${p.formula || ""}` }] }))} /></div>`;
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

// Gaps draws at most 300 bars: a bar then is the longest gap of its group.
function Gaps({ gaps }) {
  const size = Math.ceil(gaps.length / 300), m = median(gaps), items = [];
  for (let i = 0; i < gaps.length; i += size) items.push({ from: i + 1, gap: largest(gaps.slice(i, i + size)) });
  return html`<${Bars} name="gaps between tokens" items=${items} unit=${(v) => (v ? span(v) : "0")} height=${90}
    parts=${(i) => [[i.gap > 5 * m && i.gap > 50000 ? ink("bad") : "phase-decode", i.gap, `token ${i.from + 1}: ${span(i.gap)} after the one before`]]} />`;
}

function EnergyOf({ r, c }) {
  const parts = [["prefill", r.gpu_prefill_uj, ink("prefill")], ["decode", r.gpu_decode_uj, ink("decode")], ["its share of the idle draw", r.gpu_idle_uj, ink("idle")]].filter((p) => p[1] > 0);
  const rules = [["by time (for comparison)", r.gpu_time_uj], ["by tokens (for comparison)", r.gpu_token_uj], ["processor", r.cpu_uj]].filter((p) => p[1] !== null && p[1] !== undefined);
  const rest = html`${rules.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${joules(value)}</dd>`)}
    ${r.energy_source && html`<dt>source</dt><dd>${r.energy_source}${r.gpu_devices ? ` · ${[].concat(r.gpu_devices).join(", ")}` : ""}</dd>`}
    ${c.efficiency?.gco2e ? html`<dt>CO₂e</dt><dd>${digits(c.efficiency.gco2e)} g</dd>` : null}`;
  const table = () => ({ columns: ["part", "uj"], rows: [...parts, ["sum", energyOf(r)], ["sigma", r.gpu_sigma_uj], ...rules].map(([name, value]) => [name, value ?? null]) });
  return html`<${Section} title="Energy" note=${qualities[r.energy_quality] || r.energy_quality || "no energy was obtained"} tools=${html`<${Copy} command=${"wattline requests " + words(r.id)} name=${"energy-" + r.id} table=${table} />`}>
    ${parts.length > 0 && html`<${Parts} name=${`energy: ${parts.map((p) => `${p[0]} ${joules(p[1])}`).join(", ")}`} sigma=${r.gpu_sigma_uj} parts=${parts.map(([name, value, fill]) => ({ name, value, fill, text: joules(value) }))} />`}
    <dl>${parts.map(([name, value, fill]) => html`<dt key=${name}><span class="chip" style=${{ background: fill }}></span>${name}</dt><dd title=${value + " µJ"}>${joules(value)}</dd>`)}
      <dt>sum</dt><dd><${Energy} row=${r} /></dd>${rest}</dl><//>`;
}

// Reuse tells whether the prompt was reused as far as it could be, and whose fault it was if not.
function Reuse({ r, advice }) {
  const d = JSON.parse(r.details || "{}");
  const other = (id) => html`<a href=${href("requests", id)}>${short(id)}</a>`;
  return html`<${Section} title="Prompt cache" note=${[r.cache_verdict, r.cache_cause, r.cache_part].filter(Boolean).join(", ").replaceAll("_", " ")}>
    <dl><dt>reused</dt><dd>${count(r.cached_tokens)} of ${count(r.prompt_tokens)} tokens</dd>
      <dt>could have been</dt><dd>${count(r.cache_expected_tokens)}${d.cache_expected_sigma ? html` <span class="pm">± ${count(d.cache_expected_sigma)}</span>` : null} tokens</dd>
      ${r.cache_lost_tokens > 0 && html`<dt>computed again</dt><dd>${count(r.cache_lost_tokens)} tokens, ${span(r.cache_lost_us)}, ${r.cache_lost_uj === null ? "joules not known" : html`<${PlusMinus} value=${r.cache_lost_uj / 1e6} sigma=${(r.cache_lost_sigma_uj || 0) / 1e6} />`}</dd>`}
      ${d.cache_why && html`<dt>why</dt><dd>${d.cache_why}</dd>`}
      ${d.cache_predecessor && html`<dt>compared with</dt><dd>${other(d.cache_predecessor)}: the first ${count(d.cache_matched_bytes)} bytes are the same</dd>`}
      ${d.cache_taken_by && html`<dt>slot taken by</dt><dd>${other(d.cache_taken_by)}</dd>`}
      ${advice && html`<dt>what to do</dt><dd>${advice}</dd>`}</dl><//>`;
}

const most = 30; // neighbours that are drawn
function rowTable(rows) {
  const columns = Object.keys(rows[0] || { id: 0 });
  return { columns, rows: rows.map((row) => columns.map((k) => row[k])) };
}

function beside(r) {
  const end = sqlTime(at(r.started_at) + (r.duration_us || 0) / 1000 + 1);
  return `wattline query ${words(`SELECT * FROM efficiency WHERE started_at < '${end}' AND started_at >= '${sqlTime(at(r.started_at) - 9e5)}' ORDER BY started_at`)}`;
}

const around = (r) => ({ from: r.started_at, to: new Date(at(r.started_at) + (r.duration_us || 0) / 1000 + 1).toISOString(), all: 1 });

function Neighbours({ r, others, changes }) {
  const start = at(r.started_at), end = start + (r.duration_us || 0) / 1000;
  const line = (row, on) => {
    const s = at(row.started_at);
    return { on, tint: row.agent, from: Math.max(start, s), to: Math.min(end, s + (row.duration_us || 0) / 1000),
      spans: phasesOf(row).filter((p) => p.to > start && p.from < end).map((p) => ({ phase: p.phase, from: Math.max(start, p.from), to: Math.min(end, p.to), title: `${row.agent || "unnamed"}: ${p.phase} ${span((p.to - p.from) * 1000)}` })) };
  };
  const rows = [r, ...others.slice(0, most)];
  return html`<div class="waterfall"><ol class=${changes.length ? "marked" : null}>${rows.map((o, i) => html`<li key=${o.id}>${i ? html`<a href=${href("requests", o.id)}>${o.agent || "unnamed"}</a>` : html`<b>this one</b>`} <span class="pm">${energyOf(o) ? joules(energyOf(o)) : ""}</span></li>`)}</ol>
    <${Gantt} name=${`${others.length} requests beside it`} from=${start} to=${end || start + 1} label=${(v) => (v > start ? span((v - start) * 1000) : "0")} lines=${rows.map((o, i) => line(o, !i))} marks=${changes} /></div>`;
}

function Siblings({ r, rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="requests of the session"><table><thead><tr><th>time</th><th class="r">in</th><th class="r">cached</th><th class="r">out</th><th class="r">first token</th><th class="r">energy</th><th>outcome</th></tr></thead>
    <tbody>${rows.map((s) => html`<tr key=${s.id} class=${s.id === r.id ? "on" : ""}><td>${s.id === r.id ? when(s.started_at) : html`<a href=${href("requests", s.id)}>${when(s.started_at)}</a>`}</td>
      <td class="r">${count(s.prompt_tokens)}</td><td class="r">${count(s.cached_tokens)}</td><td class="r">${count(s.output_tokens)}</td><td class="r">${span(s.ttft_us)}</td><td class="r"><${Energy} row=${s} /></td><td><${Outcome} row=${s} /></td></tr>`)}</tbody></table></div>`;
}

const plain = (v) => (v === null || v === undefined || v === "" ? none : typeof v === "object" ? JSON.stringify(v) : String(v));

function Columns({ r, formulas, efficiency }) {
  const all = [...Object.entries(r), ...Object.entries(efficiency).filter(([k]) => !(k in r))];
  return html`<dl class="all">${all.map(([k, v]) => html`<dt key=${k} title=${formulas[k]}><code>${k}</code></dt><dd title=${k === "started_at" ? exactly(v) : formulas[k]}>${plain(v)}</dd>`)}</dl>`;
}
