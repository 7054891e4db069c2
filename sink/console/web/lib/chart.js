// A chart: uPlot draws axes, grid and cursor and reads the pointer; what is in it is drawn by the caller. The report of replay
// has the same charts. On a time axis gaps are hatched and say why, changes of the configuration are vertical marks, and
// dragging selects a span.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { hatch, ink } from "./colour.js";
import { timeOfDay } from "./format.js";

const font = "11px system-ui, sans-serif";
const axis = { stroke: () => ink("soft"), ticks: { show: false }, font, filter: (_, at) => at };
const name = (label) => (label ? { label, labelSize: 18, labelGap: 0, labelFont: font } : {});

// ticks are labels of the time axis: seconds before now on a live one, else local times.
const splits = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800, 2592000];

function timeAxis(u, props) {
  const [from, to] = [u.scales.x.min, u.scales.x.max];
  const room = Math.max(2, Math.floor(u.width / 110));
  const step = (splits.find((s) => (to - from) / 1000 / s <= room) || splits.at(-1)) * 1000;
  const out = [];
  if (props.live) for (let t = to; t >= from - 1; t -= step) out.unshift(t);
  else {
    const offset = step > 3600000 ? new Date(from).getTimezoneOffset() * 60000 : 0;
    for (let t = Math.ceil((from - offset) / step) * step + offset; t <= to; t += step) out.push(t);
  }
  return out;
}

function timeLabel(t, u, props) {
  const [from, to] = [u.scales.x.min, u.scales.x.max];
  if (props.live) {
    const s = Math.round((to - t) / 1000);
    return s === 0 ? "now" : s % 60 === 0 && s >= 60 ? `−${s / 60} min` : `−${s} s`;
  }
  const d = new Date(t);
  if (to - from > 3 * 86400000) return d.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  return to - from > 600000 ? d.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }) : timeOfDay(t);
}

// Chart's props: from, to (of the x axis), height, max and min (of the y axis) with unit(value) -> label and size (of the unit
// written), or no unit for lanes; logX, logY; xTicks and yTicks (u, props) -> values; xLabel(value, u, props); xName, yName;
// draw(ctx, x, y, box) in CSS pixels; marks [{at, text}]; gaps [{from, to, reason}]; selection [from, to]; onSelect(from, to);
// hover(x, y, fraction of the height, u) -> template or null; live; label (for screen readers).
export function Chart(props) {
  const box = useRef(null), chart = useRef(null), latest = useRef(props);
  const [pointer, setPointer] = useState(null);
  latest.current = props;

  useEffect(() => {
    const p = () => latest.current;
    const u = new uPlot({
      width: box.current.clientWidth || 600, height: p().height, pxAlign: 1, legend: { show: false },
      padding: [10, 10, 0, 0],
      scales: { x: { time: false, distr: p().logX ? 3 : 1, range: () => [p().from, p().to] }, y: { distr: p().logY ? 3 : 1, range: () => [p().min || 0, p().max || 1] } },
      cursor: { y: false, points: { show: false }, drag: { x: !!p().onSelect, y: false, setScale: false, dist: 4 } },
      series: [{}, { show: true, paths: () => null, points: { show: false } }],
      axes: [
        { ...axis, grid: { show: !!p().xGrid, stroke: () => ink("line"), width: 1 }, size: 24, gap: 7, ...name(p().xName),
          splits: (self) => p().xTicks(self, p()), values: (self, at) => at.map((t) => p().xLabel(t, self, p())) },
        { ...axis, grid: { show: p().max !== undefined, stroke: () => ink("line"), width: 1 }, size: 64, gap: 6, ...name(p().yName),
          splits: (self) => (p().yTicks || ((_, q) => levels(q)))(self, p()), values: (self, at) => at.map((v) => (p().unit ? trimmed(p().unit(v)) : "")) },
      ],
      hooks: {
        drawAxes: [(self) => paint(self, p())],
        setSelect: [(self) => {
          const s = self.select;
          if (s.width < 3) return;
          const [a, b] = [self.posToVal(s.left, "x"), self.posToVal(s.left + s.width, "x")];
          self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          p().onSelect?.(a, b);
        }],
        // uPlot tells of the cursor after each drawing too: only a pointer that moved may draw again, else the page never rests.
        setCursor: [({ cursor: { left, top } }) => setPointer((old) => (old?.left === left && old?.top === top ? old : { left, top }))],
      },
    }, [[p().from, p().to], [p().min || 0, p().min || 0]], box.current);
    chart.current = u;
    const size = new ResizeObserver(() => { if (box.current?.clientWidth && box.current.clientWidth !== u.width) u.setSize({ width: box.current.clientWidth, height: p().height }); });
    size.observe(box.current);
    const redraw = () => u.redraw(false, true);
    addEventListener("themechange", redraw);
    return () => { size.disconnect(); removeEventListener("themechange", redraw); u.destroy(); };
  }, []);

  useLayoutEffect(() => {
    const u = chart.current;
    if (!u) return;
    if (u.height !== props.height) u.setSize({ width: u.width, height: props.height });
    u.setData([[props.from, props.to], [props.min || 0, props.min || 0]]);
  });

  const tip = pointer && chart.current && tipAt(chart.current, props);
  return html`<div class="chart" role="img" aria-label=${props.label} data-selecting=${props.onSelect ? "span" : null}>
    <div ref=${box}></div>
    ${tip && html`<div class="tip" style=${{ left: tip.left, right: tip.right, top: 8 }}>${tip.body}</div>`}
  </div>`;
}

// TimeChart is a Chart whose x axis is time, in ms.
export const TimeChart = (props) => html`<${Chart} xTicks=${timeAxis} xLabel=${timeLabel} ...${props} />`;

function tipAt(u, p) {
  const { left, top } = u.cursor;
  if (left === undefined || left < 0) return null;
  const t = u.posToVal(left, "x");
  const near = (p.marks || []).find((m) => Math.abs(u.valToPos(m.at, "x") - left) < 5);
  const gap = (p.gaps || []).find((g) => t >= g.from && t <= (g.to || p.to));
  const body = near ? html`<b>${timeOfDay(near.at)}</b> ${near.text}` : gap ? html`<b>nothing measured</b> ${gap.reason}` : p.hover?.(t, u.posToVal(top, "y"), top / u.over.clientHeight, u);
  if (!body) return null;
  const over = left + u.over.offsetLeft;
  return over > u.width / 2 ? { right: u.width - over + 14, body } : { left: over + 14, body };
}

// paint runs between the axes and the (empty) series.
function paint(u, p) {
  const { ctx } = u, k = devicePixelRatio || 1;
  const b = { left: u.bbox.left / k, top: u.bbox.top / k, width: u.bbox.width / k, height: u.bbox.height / k };
  ctx.save();
  ctx.scale(k, k);
  ctx.beginPath();
  ctx.rect(b.left, b.top - 10, b.width, b.height + 12);
  ctx.clip();
  const [across, up] = [part(p.from, p.to, p.logX), part(p.min || 0, p.max || 1, p.logY)];
  const x = (v) => b.left + across(v) * b.width, y = (v) => b.top + b.height - up(v) * b.height;
  for (const g of p.gaps || []) {
    const [a, z] = [x(g.from), x(g.to || p.to)];
    ctx.fillStyle = hatch(ctx, ink("gap"));
    ctx.fillRect(a, b.top, Math.max(1, z - a), b.height);
  }
  p.draw(ctx, x, y, b);
  if (p.selection) {
    const [a, z] = p.selection.map(x);
    ctx.fillStyle = ink("select");
    ctx.fillRect(a, b.top, z - a, b.height);
    ctx.fillStyle = ink("accent");
    for (const edge of [a, z]) ctx.fillRect(edge - 0.5, b.top, 1, b.height);
  }
  paintMarks(ctx, x, b, p);
  ctx.restore();
}

// part is how far along an axis a value lies, from 0 to 1.
const part = (lo, hi, log) => (log ? (v) => Math.log(v / lo) / Math.log(hi / lo) : (v) => (v - lo) / (hi - lo));

function paintMarks(ctx, x, b, p) {
  ctx.font = font;
  ctx.fillStyle = ctx.strokeStyle = ink("soft");
  let free = -Infinity;
  for (const m of [...(p.marks || [])].sort((a, c) => a.at - c.at)) {
    const at = Math.round(x(m.at)) + 0.5;
    if (at < b.left || at > b.left + b.width) continue;
    ctx.setLineDash([3, 3]);
    ctx.beginPath();
    ctx.moveTo(at, b.top - 8);
    ctx.lineTo(at, b.top + b.height);
    ctx.stroke();
    ctx.setLineDash([]);
    if (at > free && p.markText !== false) {
      const width = Math.min(ctx.measureText(m.text).width, 220);
      const flip = at + 5 + width > b.left + b.width;
      ctx.textAlign = flip ? "right" : "left";
      ctx.fillText(m.text, flip ? at - 5 : at + 5, b.top - 1, 220);
      ctx.textAlign = "left";
      free = at + width + 10;
    }
  }
}

// levels are the labels of the y axis: round parts of a maximum that niceMax gave, in the unit that is written (size).
function levels({ max = 1, min = 0, size = 1, unit }) {
  if (!unit) return [min];
  const m = max / size / 10 ** Math.floor(Math.log10(max / size) + 1e-9);
  const n = [[1, 4], [1.5, 3], [2, 4], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5]].find(([v]) => Math.abs(v - m) < 0.01)?.[1] || 4;
  return Array.from({ length: n + 1 }, (_, i) => min + ((max - min) * i) / n);
}

// trimmed takes the zeros of three significant digits off: an axis is no measurement.
export const trimmed = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

// niceMax is the end of an axis that begins at 0: 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten.
export function niceMax(v) {
  if (!(v > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  return p * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((m) => m * p >= v * 0.9999);
}
