// Plot draws series of points on two axes, each linear or logarithmic: lines, steps, single points.
import { html } from "./html.js";
import { Chart } from "./chart.js";
import { Legend } from "./parts.js";
import { largest, smallest } from "./format.js";

// ends are the ends of an axis that holds all values.
function ends(axis, values) {
  const all = values.filter((v) => Number.isFinite(v) && (!axis.log || v > 0));
  let lo = axis.min ?? smallest(all), hi = axis.max ?? largest(all);
  if (!all.length) return axis.log ? [1, 10] : [0, 1];
  if (axis.log) return [lo / (axis.min === undefined ? 1.3 : 1), hi * (axis.max === undefined ? 1.3 : 1)];
  if (axis.min === undefined) lo = axis.zero === false ? lo - (hi - lo || Math.abs(hi) || 1) * 0.1 : Math.min(0, lo);
  if (axis.max === undefined) hi += (hi - lo || 1) * 0.06;
  return [lo, hi > lo ? hi : lo + 1];
}

// ticks are about n round values from lo to hi.
export function ticks(lo, hi, log, n) {
  const out = [];
  if (log) {
    const decades = Math.log10(hi / lo), parts = decades * 3 <= n ? (decades * 9 <= n ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 5]) : [1];
    const every = Math.max(1, Math.ceil(decades / n));
    for (let e = Math.floor(Math.log10(lo)); e <= Math.log10(hi); e++) {
      for (const m of parts) if (e % every === 0 && m * 10 ** e >= lo * 0.9999 && m * 10 ** e <= hi * 1.0001) out.push(m * 10 ** e);
    }
    return out.length > 1 ? out : [lo, hi];
  }
  const raw = (hi - lo) / Math.max(1, n), p = 10 ** Math.floor(Math.log10(raw));
  const step = p * [1, 2, 5, 10].find((m) => m * p >= raw * 0.9999);
  for (let v = Math.ceil(lo / step - 1e-9) * step; v <= hi + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}

const shapes = {
  circle: (c, x, y, r) => c.arc(x, y, r, 0, 7),
  square: (c, x, y, r) => c.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8),
  triangle: (c, x, y, r) => { c.moveTo(x, y - r * 1.2); c.lineTo(x + r * 1.1, y + r * 0.8); c.lineTo(x - r * 1.1, y + r * 0.8); c.closePath(); },
  diamond: (c, x, y, r) => { c.moveTo(x, y - r * 1.3); c.lineTo(x + r * 1.3, y); c.lineTo(x, y + r * 1.3); c.lineTo(x - r * 1.3, y); c.closePath(); },
};
export const symbols = Object.keys(shapes);

// Plot's props: x and y {name, log, min, max, zero, unit(value) -> label}; series [{name, colour, points [[x, y, tip]], line,
// step, dash, symbol, size, area}]; height; label; tip(series, point) -> template.
export function Plot({ x, y, series, height = 320, label, tip, legend = true, ...rest }) {
  const of = (k) => series.flatMap((s) => s.points.map((p) => p[k]));
  const [from, to] = ends(x, of(0)), [min, max] = ends(y, of(1));
  const draw = (ctx, px, py, box) => { for (const s of series) drawSeries(ctx, px, py, box, s, min); };
  const hover = (_, __, ___, u) => {
    const near = nearest(u, series);
    return near && tip(...near);
  };
  return html`<div><${Chart} from=${from} to=${to} min=${min} max=${max} logX=${!!x.log} logY=${!!y.log} height=${height} unit=${y.unit} xName=${x.name} yName=${y.name} xGrid
      xTicks=${(u) => ticks(from, to, x.log, Math.max(2, Math.floor(u.width / 70)))} xLabel=${(v) => x.unit(v)} yTicks=${() => ticks(min, max, y.log, Math.max(2, Math.floor(height / 45)))}
      draw=${draw} hover=${hover} label=${label} ...${rest} />
    ${legend && html`<${Legend} items=${series.filter((s) => s.name !== undefined).map((s) => [s.colour, s.name])} />`}</div>`;
}

export function drawSeries(ctx, px, py, box, s, floor = 0) {
  ctx.strokeStyle = ctx.fillStyle = s.colour;
  ctx.lineWidth = s.width || 1.6;
  if (s.line !== false) {
    const path = () => {
      ctx.beginPath();
      let last = null;
      for (const p of s.points) {
        const [left, top] = [px(p[0]), py(p[1])];
        if (last === null) ctx.moveTo(left, top);
        else if (s.step) { ctx.lineTo(left, last); ctx.lineTo(left, top); } else ctx.lineTo(left, top);
        last = top;
      }
    };
    path();
    ctx.setLineDash(s.dash || []);
    ctx.stroke();
    ctx.setLineDash([]);
    if (s.area && s.points.length) {
      ctx.lineTo(px(s.points.at(-1)[0]), py(floor));
      ctx.lineTo(px(s.points[0][0]), py(floor));
      ctx.globalAlpha = 0.14;
      ctx.fill();
      ctx.globalAlpha = 1;
    }
  }
  if (!s.symbol) return;
  for (const p of s.points) {
    ctx.beginPath();
    shapes[s.symbol](ctx, px(p[0]), py(p[1]), s.size || 3);
    ctx.fill();
  }
}

// nearest is the series and its point closest to the pointer, within 40 pixels.
function nearest(u, series) {
  const { left, top } = u.cursor;
  let best = null, least = 40 * 40;
  for (const s of series) {
    for (const p of s.points) {
      const d = (u.valToPos(p[0], "x") - left) ** 2 + (u.valToPos(p[1], "y") - top) ** 2;
      if (d < least) [best, least] = [[s, p], d];
    }
  }
  return best;
}
