// Runs: what replay --out wrote below the configured folder, side by side.
import { html } from "../lib/html.js";
import { go, href } from "../lib/route.js";
import { useAsk } from "../lib/api.js";
import { digits, none, when } from "../lib/format.js";
import { Loaded, Section } from "../lib/parts.js";
import { Copy, words } from "../lib/copy.js";
import { RunCharts } from "../lib/runcharts.js";
import { Forest } from "../lib/forest.js";

export default function Runs({ route, hello }) {
  const runs = useAsk(hello.runs ? "/api/runs" : null);
  const chosen = route.id ? [route.id] : route.params.getAll("run");
  if (!hello.runs) return html`<h1>Runs</h1><p class="soft">No folder of runs is configured: start with --runs DIR, the folder in which wattline replay --out DIR/NAME writes.</p>`;
  const toggle = (name) => go(href("runs", "", { run: chosen.includes(name) ? chosen.filter((n) => n !== name) : [...chosen, name] }));
  return html`<h1>Runs</h1><${Section} title="Recorded runs" note="choose some to see them side by side" tools=${html`<${Copy} name="runs" command=${"wattline report " + (chosen.length ? words(...chosen) : "DIR...")} table=${() => listTable(runs.data || [])} />`}>
    <${Loaded} of=${runs} empty="No runs in the folder yet: wattline replay --out DIR/NAME writes one.">${(rows) => html`<div class="scroll" tabindex="0" role="region" aria-label="table of runs"><table>
      <thead><tr><th><span class="unseen">compare</span></th><th>run</th><th>time</th><th>verdict</th>${extra(rows).map((k) => html`<th key=${k}>${k.replaceAll("_", " ")}</th>`)}</tr></thead>
      <tbody>${rows.map((r) => html`<tr key=${r.run} class=${chosen.includes(r.run) ? "on" : ""}><td><input type="checkbox" aria-label=${"compare " + r.run} checked=${chosen.includes(r.run)} onChange=${() => toggle(r.run)} /></td>
        <td><a href=${href("runs", r.run)}>${r.run}</a></td><td>${when(r.at)}</td><td><span class=${"tag" + (r.verdict === "VALID" ? "" : " bad")}>${r.verdict || none}</span></td>${extra(rows).map((k) => html`<td key=${k}>${show(r[k])}</td>`)}</tr>`)}</tbody></table></div>`}<//><//>
    ${chosen.length === 2 && html`<${Compared} key=${"compare\n" + chosen.join("\n")} a=${chosen[0]} b=${chosen[1]} />`}
    ${chosen.length > 0 && html`<${Side} key=${chosen.join("\n")} names=${chosen.slice(0, 6)} />`}`;
}

const extra = (rows) => [...new Set(rows.flatMap((r) => Object.keys(r)))].filter((k) => !["run", "at", "verdict"].includes(k) && rows.every((r) => typeof r[k] !== "object" || r[k] === null)).slice(0, 8);
const show = (v) => (v === null || v === undefined ? none : typeof v === "number" ? digits(v) : String(v));

// Compared shows whether the run that was chosen second is better or worse than the first.
function Compared({ a, b }) {
  const answer = useAsk("/api/compare", { a, b });
  return html`<${Section} title=${`${b} against ${a}`} note="95 % intervals" tools=${html`<${Copy} name="compare" command=${"wattline compare " + words(a, b)} table=${() => ({ columns: answer.data?.columns ?? [], rows: answer.data?.rows ?? [] })} />`}>
    <${Loaded} of=${answer}>${(of) => html`<${Forest} of=${of} />
      ${of.rows.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="table of effects"><table><thead><tr>${of.columns.map((c) => html`<th key=${c}>${c}</th>`)}</tr></thead>
        <tbody>${of.rows.map((row) => html`<tr key=${row[0]}>${row.map((v, i) => html`<td key=${i}>${v}</td>`)}</tr>`)}</tbody></table></div>`}
      <ul class="soft">${of.text.map((line) => html`<li key=${line}>${line}</li>`)}</ul>`}<//><//>`;
}

// Side shows the figures of each run in one table, a column a run.
function Side({ names }) {
  const answers = names.map((n) => useOne(n)); // the number of names is part of the key
  const failed = answers.find((a) => a.error);
  if (failed) return html`<${Section} title="Side by side"><p class="problem" role="alert">${failed.error.message}</p><//>`;
  if (answers.some((a) => !a.data)) return null;
  const flats = answers.map((a) => new Map(flat(a.data.results ?? a.data)));
  const keys = [...new Set(flats.flatMap((f) => [...f.keys()]))].filter((k) => flats.some((f) => typeof f.get(k) === "number" || names.length === 1)).slice(0, 400);
  const charts = answers.map((a) => a.data.charts).filter(Boolean);
  const without = answers.map((a) => a.data.no_charts).filter(Boolean);
  return html`${without.map((why) => html`<p class="warn" key=${why}>No charts: ${why}</p>`)}${charts.length > 0 && html`<${RunCharts} data=${{ runs: charts }} />`}<${Section} title=${names.length > 1 ? "Side by side" : names[0]} note=${names.length > 2 ? "choose two to see which differences are real" : ""}
      tools=${html`<${Copy} name="compare" command=${"wattline report " + words(...names)} table=${() => ({ columns: ["figure", ...names], rows: keys.map((k) => [k, ...flats.map((f) => f.get(k))]) })} />`}>
    <div class="scroll tall" tabindex="0" role="region" aria-label="table of figures"><table><thead><tr><th>figure</th>${names.map((n) => html`<th key=${n} class="r">${n}</th>`)}</tr></thead>
    <tbody>${keys.map((k) => html`<tr key=${k}><td title=${k}>${k}</td>${flats.map((f, i) => html`<td key=${i} class="r">${show(f.get(k))}</td>`)}</tr>`)}</tbody></table></div><//>`;
}

const useOne = (name) => useAsk("/api/runs/" + encodeURIComponent(name));

function flat(v, prefix = "") {
  return Object.entries(v || {}).flatMap(([k, x]) => (x !== null && typeof x === "object" ? flat(x, prefix + k + ".") : [[prefix + k, x]]));
}

function listTable(rows) {
  const c = ["run", "at", "verdict", ...extra(rows)];
  return { columns: c, rows: rows.map((r) => c.map((k) => r[k])) };
}
