// The chart that suits the answer of a query: bars over its first column, for one figure that can be chosen. None where the
// answer has one row, or no figures.
import { html, useState } from "../lib/html.js";
import { Bars } from "../lib/gantt.js";
import { colour } from "../lib/colour.js";
import { breaksOf, useMarks } from "../lib/configs.js";
import { at, digits } from "../lib/format.js";
import { Choice } from "../lib/parts.js";

const likely = ["j_per_token", "tokens_per_j", "joules", "residual_j", "energy_j", "mean_j", "ttft_ms_p50", "n_requests"];

// timesOf are the moments in the first column, if it holds times in UTC; null otherwise.
function timesOf(rows) {
  if (!rows.length || !rows.every((r) => /^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?Z?$/.test(r[0]))) return null;
  return rows.map((r) => at(r[0].length > 10 ? r[0].replace(" ", "T").replace(/Z?$/, "Z") : r[0]));
}

export function Picture({ columns, rows: given, numeric }) {
  const rows = timesOf(given) ? [...given].sort((a, b) => (a[0] < b[0] ? -1 : 1)) : given;
  const times = timesOf(rows);
  const breaks = breaksOf(useMarks(times?.[0], times?.at(-1)), times || []);
  const figures = columns.map((c, i) => [c, i]).filter(([, i]) => numeric[i] && i > 0);
  const [chosen, choose] = useState(null);
  if (rows.length < 2 || rows.length > 400 || !figures.length) return null;
  const start = likely.map((n) => figures.find(([c]) => c === n)).find(Boolean) || figures[0];
  const [name, i] = figures.find(([c]) => c === chosen) || start;
  const ordered = rows.length > 1 && /hour|day|at$|_at|time|minute|month|part|concurrency|in_flight|prompt|bucket/.test(columns[0]);
  const text = (r) => { const t = String(r[0] ?? "–"); return t.length > 14 ? t.slice(0, 13) + "…" : t; };
  return html`<div><${Choice} label="figure" options=${figures.slice(0, 8).map(([c]) => [c, c])} value=${name} onChange=${choose} />
    <${Bars} name=${`${name} by ${columns[0]}`} items=${rows} height=${150} breaks=${breaks} unit=${(v) => (v ? digits(v) : "0")} text=${rows.length <= 12 ? text : (r, k) => (k % Math.ceil(rows.length / 8) === 0 ? text(r) : "")}
      parts=${(r) => [[ordered ? "var(--accent)" : colour(r[0] === null ? "" : String(r[0])), Math.max(0, r[i] || 0), `${r[0] ?? "–"}: ${digits(r[i])}`]]} /></div>`;
}
