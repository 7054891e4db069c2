// Draws the charts of a report from `data` (see charts.go). It computes nothing but positions.
"use strict";

const style = getComputedStyle(document.documentElement);
const ink = style.getPropertyValue("--ink").trim();
const soft = style.getPropertyValue("--soft").trim();
const line = style.getPropertyValue("--line").trim();
const palette = ["#3b73d9", "#e0812b", "#2a9d6f", "#b65cc4", "#d1495b", "#2aa5b8", "#8a7a2f", "#7a6ff0", "#5c6b7a", "#c2578a"];
const phaseColours = { network: "#8a94a6", upload: "#c9b458", proxy: "#d1495b", queue: "#b65cc4", prefill: "#e0812b", server: "#2aa5b8", decode: "#3b73d9", idle: "#8a94a6" };
const many = data.runs.length > 1;
const symbols = ["circle", "triangle", "rect", "diamond", "pin", "arrow"];

const three = (v) => v == null ? "-" : Math.abs(v) >= 100 ? v.toFixed(0) : Number(v.toPrecision(3)).toString();

// escaped is text for a tooltip, whose formatters return HTML; labels of runs are the user's own text.
const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");

// card makes room for a chart and draws it. An option that is a text says why there is none.
function card(title, note, option, classes) {
  const box = document.createElement("div");
  box.className = "card " + (classes || "");
  box.innerHTML = "<h3></h3><p class=soft></p><div></div>";
  box.children[0].textContent = title;
  box.children[1].textContent = note;
  document.getElementById("charts").append(box);
  if (typeof option === "string") {
    box.children[2].className = "none";
    box.children[2].textContent = option;
    return;
  }
  box.children[2].className = "chart";
  if (option.height) box.children[2].style.height = option.height + "px";
  const chart = echarts.init(box.children[2]);
  chart.setOption(Object.assign({
    color: palette, animation: false, textStyle: { color: ink, fontFamily: "inherit" },
    tooltip: { confine: true }, legend: { type: "scroll", bottom: 0, textStyle: { color: ink } },
    grid: { left: 64, right: 24, top: 24, bottom: 64 },
  }, option.chart));
  window.addEventListener("resize", () => chart.resize());
}

const axis = (name, extra) => Object.assign({
  name, nameLocation: "middle", nameGap: 30, nameTextStyle: { color: soft }, axisLine: { lineStyle: { color: soft } },
  axisLabel: { color: soft }, splitLine: { lineStyle: { color: line } },
}, extra);

const label = (run, name) => many ? run.label + ": " + name : name;

// The functions below make the options of one chart each; null is "there is nothing to draw".

function ttftBySize() {
  const series = [];
  data.runs.forEach((run, r) => {
    const groups = new Map();
    for (const c of run.cells) {
      const key = c.task + ", " + c.output + " tokens out";
      if (c.ttft_mean_ms != null) groups.set(key, [...(groups.get(key) || []), [c.prompt, c.ttft_mean_ms]]);
    }
    for (const [key, points] of groups) {
      points.sort((a, b) => a[0] - b[0]);
      series.push({ name: label(run, key), type: "line", symbol: symbols[r % symbols.length], symbolSize: 9, data: points });
    }
  });
  return series.length && { chart: {
    tooltip: { confine: true, valueFormatter: (v) => Array.isArray(v) ? v.map(three).join(" tokens: ") + " ms" : three(v) + " ms" },
    xAxis: axis("prompt tokens", { type: "log", min: (v) => v.min / 1.5, max: (v) => v.max * 1.5, axisLabel: { color: soft, showMinLabel: false, showMaxLabel: false, formatter: (v) => v >= 1000 ? three(v / 1000) + "k" : three(v) } }),
    yAxis: axis("ms", { type: "log", nameGap: 44, min: (v) => Math.pow(10, Math.floor(Math.log10(v.min))) }), series,
  } };
}

const size = (n) => n >= 1000 ? three(n / 1000) + "k" : String(n);

// Of one run each prompt size has a colour; of several each run has one, and the sizes differ in symbol and line.
const sizes = [...new Set(data.runs.flatMap((run) => run.cells.map((c) => c.prompt)))].sort((a, b) => a - b);
const colourOf = (prompt, r) => palette[(many ? r : sizes.indexOf(prompt)) % palette.length];
const symbolOf = (prompt) => symbols[many ? sizes.indexOf(prompt) % symbols.length : 0];
const dashOf = (prompt) => many ? ["solid", "dashed", "dotted"][sizes.indexOf(prompt) % 3] : "solid";

function efficiency() {
  const series = [];
  data.runs.forEach((run, r) => sizes.forEach((prompt) => {
    const points = run.cells.filter((c) => c.prompt === prompt && c.j_per_token != null && c.tps != null).map((c) => ({ value: [c.j_per_token, c.tps], name: c.name }));
    if (points.length) series.push({ name: label(run, size(prompt) + " prompts"), type: "scatter", symbol: symbolOf(prompt), symbolSize: 14, itemStyle: { color: colourOf(prompt, r) }, data: points });
  }));
  const scaled = (name, k, extra) => {
    const values = series.flatMap((s) => s.data.map((p) => p.value[k])).filter((v) => v > 0);
    const wide = Math.max(...values) > 20 * Math.min(...values);
    const range = wide ? { type: "log", min: (v) => v.min / 1.6, max: (v) => v.max * 1.6 } : { scale: true };
    return axis(wide ? name + " (logarithmic)" : name, Object.assign({ axisLabel: { color: soft, formatter: three, showMinLabel: !wide, showMaxLabel: !wide } }, range, extra));
  };
  return series.length && { chart: {
    xAxis: scaled("J/token", 0), yAxis: scaled("tokens/s", 1, { nameGap: 44 }), series,
    tooltip: { confine: true, formatter: (p) => escaped(p.name) + "<br>" + three(p.value[1]) + " tokens/s, " + three(p.value[0]) + " J/token" },
  } };
}

// distribution pools the cells with prompts of one size: how long a reply becomes does not delay its first token.
function distribution(key) {
  const series = [];
  data.runs.forEach((run, r) => sizes.forEach((prompt) => {
    const ms = run.cells.filter((c) => c.prompt === prompt).flatMap((c) => c[key] || []).filter((v) => v > 0).sort((a, b) => a - b);
    const n = ms.length;
    if (!n) return;
    const points = [[ms[0], 0], ...ms.map((v, k) => [v, (k + 1) / n])];
    series.push({ name: label(run, size(prompt) + " prompts (" + n + ")"), type: "line", step: "end", symbol: n < 40 ? symbolOf(prompt) : "none", symbolSize: 4, lineStyle: { type: dashOf(prompt), color: colourOf(prompt, r) }, itemStyle: { color: colourOf(prompt, r) }, data: points });
  }));
  return series.length && { chart: {
    xAxis: axis("ms", { type: "log", min: (v) => v.min / 1.3, max: (v) => v.max * 1.3, axisLabel: { color: soft, formatter: three, showMinLabel: false, showMaxLabel: false } }),
    yAxis: axis("share of requests", { max: 1, nameGap: 44 }), series,
    tooltip: { confine: true, formatter: (p) => escaped(p.seriesName) + "<br>" + (100 * p.value[1]).toFixed(0) + " % within " + three(p.value[0]) + " ms" },
  } };
}

// lanes draws one run's requests, each from its start to its first token (pale) and on to its end.
function lanes(run) {
  if (!run.lanes || !run.lanes.length) return null;
  const width = Math.max(3, Math.min(14, 200 / run.lane_count));
  const bars = (cell, pale) => {
    const points = [];
    for (const l of run.lanes) {
      if (l.cell !== cell) continue;
      const [from, to] = pale ? [l.from, l.first ?? l.to] : [l.first ?? l.to, l.to];
      points.push([from, l.lane], [to, l.lane], [null, null]);
    }
    return points;
  };
  const series = [];
  run.cells.forEach((c, i) => {
    const colour = palette[i % palette.length];
    const common = { type: "line", name: c.name, symbol: "none", connectNulls: false, itemStyle: { color: colour }, tooltip: { show: false } };
    series.push(Object.assign({}, common, { data: bars(i, true), lineStyle: { width, color: colour, opacity: 0.35, cap: "butt" } }));
    series.push(Object.assign({}, common, { data: bars(i, false), lineStyle: { width, color: colour, cap: "butt" } }));
  });
  const below = [];
  for (const d of run.power || []) below.push({ name: d.device + ", W", type: "line", symbol: "none", sampling: "minmax", xAxisIndex: 1, yAxisIndex: 1, lineStyle: { width: 1.2 }, areaStyle: { opacity: 0.12 }, data: d.points });
  const powered = below.length > 0;
  if (!powered) below.push({ name: "in flight (proxy's gauge)", type: "line", step: "end", symbol: "none", xAxisIndex: 1, yAxisIndex: 1, lineStyle: { width: 1.2, color: soft }, itemStyle: { color: soft }, areaStyle: { opacity: 0.12 }, data: run.gauge || [] });
  const time = { type: "value", min: 0, max: run.length_s > 10 ? Math.ceil(run.length_s) : Number(run.length_s.toPrecision(2)) * 1.05 };
  const tall = Math.max(60, Math.min(230, 24 * run.lane_count + 24));
  const panel = powered ? "Below: what the device drew." : "No power was measured; below: how many requests the proxy had in flight.";
  return { note: panel, height: tall + 250, chart: {
    axisPointer: { link: [{ xAxisIndex: "all" }] }, tooltip: { trigger: "axis", confine: true, valueFormatter: three },
    grid: [{ left: 64, right: 24, top: 16, height: tall }, { left: 64, right: 24, top: tall + 40, height: 120 }],
    xAxis: [axis("", Object.assign({ gridIndex: 0, axisLabel: { show: false } }, time)), axis("seconds", Object.assign({ gridIndex: 1, nameGap: 24 }, time, { axisLabel: { color: soft, showMaxLabel: false } }))],
    yAxis: [axis("request lanes", { gridIndex: 0, min: -0.7, max: run.lane_count - 0.3, inverse: true, nameGap: 44, axisLabel: { show: false }, splitLine: { show: false } }),
      axis(powered ? "W" : "in flight", { gridIndex: 1, nameGap: 44, splitNumber: 3 })],
    series: series.concat(below),
  } };
}

// stacked draws horizontal bars of phases, one a cell; where the longest is far longer than the shortest, as
// shares with the whole beside the name.
function stacked(phases, value, unit) {
  const rows = [];
  for (const run of data.runs) for (const c of run.cells) {
    if (phases.some((p) => value(c, p) != null)) rows.push({ name: label(run, c.name), cell: c, whole: phases.reduce((sum, p) => sum + Math.max(0, value(c, p) || 0), 0) });
  }
  if (!rows.length) return null;
  rows.reverse();
  const wholes = rows.map((r) => r.whole);
  const shares = Math.max(...wholes) > 50 * Math.min(...wholes);
  const amount = (v) => unit === "ms" && v >= 1000 ? three(v / 1000) + " s" : unit === "J" && v >= 1000 ? three(v / 1000) + " kJ" : three(v) + " " + unit;
  const series = phases.map((p) => ({
    name: p, type: "bar", stack: "all", barMaxWidth: 22, itemStyle: { color: phaseColours[p] },
    data: rows.map((r) => { const v = Math.max(0, value(r.cell, p) || 0); return shares ? 100 * v / r.whole : v; }),
  }));
  const tip = (list) => escaped(rows[list[0].dataIndex].name) + list.map((s) => "<br>" + s.marker + escaped(s.seriesName) + ": " + amountOrNone(value(rows[s.dataIndex].cell, s.seriesName))).join("");
  const amountOrNone = (v) => v == null ? "-" : amount(v);
  return { note: shares ? "Shares; the whole stands beside the name." : "", height: Math.max(280, 120 + 22 * rows.length), chart: {
    grid: { left: 16, right: 24, top: 8, bottom: 64, containLabel: true },
    xAxis: axis(shares ? "%" : unit, Object.assign({ type: "value", nameGap: 26 }, shares ? { max: 100 } : {})),
    yAxis: axis("", { type: "category", data: rows.map((r) => shares ? r.name + ": " + amount(r.whole) : r.name) }), series,
    tooltip: { trigger: "axis", axisPointer: { type: "shadow" }, confine: true, formatter: tip },
  } };
}

const joules = (c, phase) => c[phase + "_j"];
const waterfall = (c, phase) => c.waterfall[phase + "_ms"];
const noAnswer = "Nothing was answered.";
const noEnergy = "No energy was measured: no power source, or no wattline in between.";
const noRows = "No in-line rows: the endpoint is no wattline, or its admin listener was not reachable.";

// charts are all charts of the page: title and note stand above the chart, none in its place if there is nothing to
// draw. A new chart needs an entry here, and its data in charts.go.
const charts = [
  { title: "Time to first token against prompt size", note: "Means, client; both axes logarithmic.", none: noAnswer, draw: ttftBySize },
  { title: "Distribution of the time to first token", note: "Share of requests whose first token came within so many ms. In parentheses how many there were.", none: noAnswer, draw: () => distribution("ttft_ms") },
  { title: "Throughput against energy", note: "Tokens a second against attributed GPU joules a token; up and left is better.", none: noEnergy, draw: efficiency },
  { title: "Distribution of the time per output token", note: "Share of requests whose tokens, behind the first, took so many ms each. In parentheses how many there were.", none: noAnswer, draw: () => distribution("tpot_ms") },
  { title: "Energy by phase", note: "Mean attributed GPU joules a request; waited: the idle draw before it had a slot.", none: noEnergy, draw: () => stacked(["prefill", "decode", "idle", "waited"], joules, "J") },
  { title: "Where the time to the first token goes", note: "Medians of requests measured twice, by the client and in line.", none: noRows, draw: () => stacked(["network", "upload", "proxy", "queue", "prefill", "server"], waterfall, "ms") },
  { title: "Network and proxy overhead", note: "The same without the server's own phases: what network, upload and wattline add.", none: noRows, draw: () => stacked(["network", "upload", "proxy"], waterfall, "ms") },
  { title: "Requests and power", note: "Each request is one bar: pale until its first token.", none: "No request was measured.", perRun: true, draw: lanes },
];

for (const c of charts) {
  for (const run of c.perRun ? data.runs : [null]) {
    const option = c.draw(run);
    const title = run && many ? c.title + ": " + run.label : c.title;
    if (option) card(title, [c.note, option.note].filter(Boolean).join(" "), option, c.perRun ? "wide" : "");
    else card(title, "", c.none, c.perRun ? "wide" : "");
  }
}
