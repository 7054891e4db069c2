// The charts of runs of replay: in its report, and on the page Runs. data is what replay/report/html/charts.go writes.
import { html } from "./html.js";
import { Chart } from "./chart.js";
import { Plot, drawSeries, symbols, ticks } from "./plot.js";
import { hues, ink } from "./colour.js";
import { Gantt } from "./gantt.js";
import { Legend, Section } from "./parts.js";
import { Copy, words } from "./copy.js";
import { count, digits, largest, quantity, smallest } from "./format.js";

const phaseInk = { network: "#8a94a6", upload: "#c8d73e", proxy: "#aa3523", server: "#80cdfc" };
const paint = (phase) => phaseInk[phase] || ink({ waited: "other" }[phase] || phase);
const dashes = [[], [6, 4], [2, 3]];
const ms = (v) => quantity(v / 1000, "s");
const joules = (v) => quantity(v, "J");

// context is what several charts need: the runs, the sizes of prompts in them, and how a run's or a size's figures look.
function contextOf(data) {
  const many = data.runs.length > 1;
  const sizes = [...new Set(data.runs.flatMap((run) => run.cells.map((c) => c.prompt)))].sort((a, b) => a - b);
  // Of one run each prompt size has a colour; of several each run has one, and the sizes differ in symbol and line.
  return { data, many, sizes, label: (run, name) => (many ? run.label + ": " + name : name),
    colour: (size, r) => hues[(many ? r : sizes.indexOf(size)) % hues.length],
    symbol: (size) => symbols[many ? sizes.indexOf(size) % symbols.length : 0],
    dash: (size) => dashes[many ? sizes.indexOf(size) % dashes.length : 0] };
}

// A drawing is [what is drawn, its table]; null: there is nothing to draw.
const points = (series, x, y) => ({ columns: ["series", x, y], rows: series.flatMap((s) => s.points.map((p) => [s.name, p[0], p[1]])) });

// each calls f with every run and prompt size, and keeps the series that have points.
const each = (c, f) => c.data.runs.flatMap((run, r) => c.sizes.map((size) => f(run, r, size))).filter((s) => s.points.length);

function ttftBySize(c) {
  const series = [];
  c.data.runs.forEach((run, r) => {
    const groups = new Map();
    for (const cell of run.cells) {
      const key = `${cell.task}, ${cell.output} tokens out`;
      if (cell.ttft_mean_ms !== null) groups.set(key, [...(groups.get(key) || []), [cell.prompt, cell.ttft_mean_ms]]);
    }
    for (const [key, points] of groups) {
      series.push({ name: c.label(run, key), colour: hues[series.length % hues.length], symbol: symbols[r % symbols.length], size: 4, points: points.sort((a, b) => a[0] - b[0]) });
    }
  });
  return series.length && [html`<${Plot} label="time to first token by prompt size" x=${{ name: "prompt tokens", log: true, unit: count }} y=${{ log: true, unit: ms }} series=${series}
    tip=${(s, p) => html`<b>${s.name}</b><br />${count(p[0])} tokens: ${ms(p[1])}`} />`, points(series, "prompt_tokens", "ttft_mean_ms")];
}

function efficiency(c) {
  const series = each(c, (run, r, size) => ({ name: c.label(run, count(size) + " prompts"), colour: c.colour(size, r), symbol: c.symbol(size), size: 6, line: false,
    points: run.cells.filter((x) => x.prompt === size && x.j_per_token !== null && x.tps !== null).map((x) => [x.j_per_token, x.tps, x.name]) }));
  const axis = (name, k) => {
    const values = series.flatMap((s) => s.points.map((p) => p[k])).filter((v) => v > 0), log = largest(values) > 20 * smallest(values);
    return { name: log ? name + " (logarithmic)" : name, log, zero: false, unit: digits };
  };
  return series.length && [html`<${Plot} label="throughput against energy" x=${axis("J/token", 0)} y=${axis("tokens/s", 1)} series=${series}
    tip=${(s, p) => html`<b>${p[2]}</b><br />${digits(p[1])} tokens/s, ${digits(p[0])} J/token`} />`, points(series, "j_per_token", "tokens_per_s")];
}

// distribution pools the cells with prompts of one size: how long a reply becomes does not delay its first token.
function distribution(c, key) {
  const series = each(c, (run, r, size) => {
    const values = run.cells.filter((x) => x.prompt === size).flatMap((x) => x[key] || []).filter((v) => v > 0).sort((a, b) => a - b), n = values.length;
    return { name: c.label(run, `${count(size)} prompts (${n})`), colour: c.colour(size, r), dash: c.dash(size), step: true, symbol: n < 40 ? c.symbol(size) : undefined, size: 2.4,
      points: n ? [[values[0], 0], ...values.map((v, k) => [v, (k + 1) / n])] : [] };
  });
  return series.length && [html`<${Plot} label="distribution" x=${{ log: true, unit: ms }} y=${{ name: "share of requests", min: 0, max: 1, unit: (v) => `${Math.round(100 * v)} %` }} series=${series}
    tip=${(s, p) => html`<b>${s.name}</b><br />${Math.round(100 * p[1])} % within ${ms(p[0])}`} />`, points(series, key, "share_of_requests")];
}

// stacked draws a bar of phases for each cell; where the longest is far longer than the shortest, as shares.
function stacked(c, phases, value, unit) {
  const rows = c.data.runs.flatMap((run) => run.cells.filter((x) => phases.some((p) => (value(x, p) ?? null) !== null)).map((x) => ({ name: c.label(run, x.name), cell: x,
    sum: phases.reduce((n, p) => n + Math.max(0, value(x, p) || 0), 0) })));
  if (!rows.length) return null;
  const most = largest(rows.map((r) => r.sum)), shares = most > 50 * smallest(rows.map((r) => r.sum));
  const lines = rows.map((r) => {
    let at = 0;
    return { spans: phases.map((p) => {
      const v = value(r.cell, p), from = at;
      at += Math.max(0, v || 0) / (shares ? r.sum || 1 : 1);
      return { fill: paint(p), from, to: at, title: `${r.name}: ${p} ${v === null || v === undefined ? "–" : unit(v)}` };
    }).filter((s) => s.to > s.from) };
  });
  return [html`<div>${shares && html`<p class="soft">Shares; the whole stands beside the name.</p>`}<div class="waterfall"><ol>${rows.map((r, i) => html`<li key=${i} title=${r.name}>${r.name} <span class="pm">${unit(r.sum)}</span></li>`)}</ol>
    <${Gantt} name=${phases.join(", ")} from=${0} to=${shares ? 1 : most} label=${(v) => (shares ? `${Math.round(100 * v)} %` : v ? unit(v) : "0")} lines=${lines} /></div>
    <${Legend} items=${phases.map((p) => [paint(p), p])} /></div>`, { columns: ["cell", ...phases], rows: rows.map((r) => [r.name, ...phases.map((p) => value(r.cell, p) ?? null)]) }];
}

// lanes draws one run's requests, each from its start to its first token (pale) and on to its end, and below them the power.
function lanes(c, run) {
  if (!run.lanes?.length) return null;
  const high = Math.max(3, Math.min(16, 240 / run.lane_count)), to = run.length_s || 1;
  const draw = (ctx, x, _, box) => run.lanes.forEach((l) => {
    const first = l.first ?? l.to, top = box.top + l.lane * high;
    ctx.fillStyle = l.ok ? hues[l.cell % hues.length] : ink("bad");
    ctx.globalAlpha = 0.4;
    ctx.fillRect(x(l.from), top, Math.max(0.5, x(first) - x(l.from)), high - 1.5);
    ctx.globalAlpha = 1;
    ctx.fillRect(x(first), top, Math.max(0.5, x(l.to) - x(first)), high - 1.5);
  });
  const at = (t, _, fraction) => {
    const l = run.lanes.findLast((one) => one.lane === Math.floor(fraction * run.lane_count) && t >= one.from && t <= one.to);
    return l && html`<b>${run.cells[l.cell].name}</b><br />first token ${l.first === null ? "–" : ms((l.first - l.from) * 1000)}, end ${ms((l.to - l.from) * 1000)}${l.ok ? "" : ", failed"}`;
  };
  const seconds = { from: 0, to, xTicks: (u) => ticks(0, to, false, Math.max(2, Math.floor(u.width / 80))), xLabel: (v) => `${digits(v)} s` };
  const power = (run.power || []).map((d, i) => ({ name: d.device, colour: hues[i % hues.length], points: d.points, area: true, width: 1.2 }));
  const below = power.length ? power : [{ name: "in flight", colour: ink("soft"), points: run.gauge || [], step: true, area: true }];
  const top = largest(below.flatMap((s) => s.points.map((p) => p[1])), 1) * 1.08;
  const read = (t) => html`${ms(t * 1000)}<table><tbody>${below.map((s) => {
    const p = s.points.findLast((one) => one[0] <= t);
    return p && html`<tr key=${s.name}><td>${s.name}</td><td class="r">${power.length ? quantity(p[1], "W") : p[1]}</td></tr>`;
  })}</tbody></table>`;
  return [html`<div><p class="soft">${power.length ? "Below: what the device drew." : "No power was measured; below: how many requests the proxy had in flight."}</p>
    <${Chart} ...${seconds} height=${run.lane_count * high + 34} draw=${draw} hover=${at} label=${`${run.lanes.length} requests in ${run.lane_count} lanes`} />
    <${Chart} ...${seconds} height=${150} max=${top} unit=${(v) => (power.length ? quantity(v, "W") : digits(v))} yTicks=${() => ticks(0, top, false, 3)} hover=${read}
      draw=${(ctx, x, y, box) => below.forEach((s) => drawSeries(ctx, x, y, box, s))} label=${power.length ? "power" : "requests in flight"} />
    <${Legend} items=${[...run.cells.map((cell, i) => [hues[i % hues.length], cell.name]).slice(0, 16), ...below.map((s) => [s.colour, s.name])]} /></div>`,
    { columns: ["cell", "lane", "from_s", "first_token_s", "to_s", "ok"], rows: run.lanes.map((l) => [run.cells[l.cell].name, l.lane, l.from, l.first, l.to, l.ok]) }];
}

const ofJoules = (cell, phase) => cell[phase + "_j"], ofWaterfall = (cell, phase) => cell.waterfall[phase + "_ms"];
const noAnswer = "Nothing was answered.";
const noEnergy = "No energy was measured: no power source, or no wattline in between.";
const noRows = "No in-line rows: the endpoint is no wattline, or its admin listener was not reachable.";

// charts are all charts: title and note stand above the chart, none in its place if there is nothing to draw. A new chart
// needs an entry here, and its data in charts.go.
const charts = [
  { title: "Time to first token against prompt size", note: "Means, client; both axes logarithmic.", none: noAnswer, draw: ttftBySize },
  { title: "Distribution of the time to first token", note: "Share of requests whose first token came within so long. In parentheses how many there were.", none: noAnswer, draw: (c) => distribution(c, "ttft_ms") },
  { title: "Throughput against energy", note: "Tokens a second against attributed GPU joules a token; up and left is better.", none: noEnergy, draw: efficiency },
  { title: "Distribution of the time per output token", note: "Share of requests whose tokens, behind the first, took so long each. In parentheses how many there were.", none: noAnswer, draw: (c) => distribution(c, "tpot_ms") },
  { title: "Energy by phase", note: "Mean attributed GPU joules a request; waited: the idle draw before it had a slot.", none: noEnergy, draw: (c) => stacked(c, ["prefill", "decode", "idle", "waited"], ofJoules, joules) },
  { title: "Where the time to the first token goes", note: "Medians of requests measured twice, by the client and in line.", none: noRows, draw: (c) => stacked(c, ["network", "upload", "proxy", "queue", "prefill", "server"], ofWaterfall, ms) },
  { title: "Network and proxy overhead", note: "The same without the server's own phases: what network, upload and wattline add.", none: noRows, draw: (c) => stacked(c, ["network", "upload", "proxy"], ofWaterfall, ms) },
  { title: "Requests and power", note: "Each request is one bar: pale until its first token.", none: "No request was measured.", perRun: true, draw: lanes },
];

export function RunCharts({ data }) {
  const c = contextOf(data);
  const all = charts.flatMap((chart) => (chart.perRun ? data.runs : [null]).map((run) => [chart, run, chart.draw(c, run) || []]));
  const tools = (chart, table) => html`<${Copy} command=${"wattline report " + words(...data.runs.map((run) => run.label))} table=${() => table} name=${chart.title.toLowerCase().replaceAll(" ", "-")} />`;
  return html`<div class="columns charts">${all.map(([chart, run, [body, table]]) => html`<div key=${chart.title + (run?.label ?? "")} class=${chart.perRun ? "across" : ""} data-chart=${body ? "drawn" : "none"}>
    <${Section} title=${run && c.many ? `${chart.title}: ${run.label}` : chart.title} tools=${table && tools(chart, table)}><p class="soft">${body ? chart.note : chart.none}</p>${body || null}<//></div>`)}</div>`;
}
