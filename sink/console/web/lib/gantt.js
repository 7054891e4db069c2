// Small pictures in SVG: bars of phases on a common axis, the parts of a sum, bars by turn.
import { html } from "./html.js";
import { colour } from "./colour.js";
import { niceMax, trimmed } from "./chart.js";
import { largest } from "./format.js";

const pct = (x) => `${Math.min(100, Math.max(0, x * 100)).toFixed(3)}%`;

// Gantt: lines [{spans: [{phase or fill, from, to, title}], tint, on}] between from and to (any unit); label(value) writes the
// axis; marks [{at_us, mark, means}] are vertical lines, in the unit of the axis.
export function Gantt({ lines, from, to, label, marks = [], height = 24, name }) {
  const length = to - from || 1, x = (v) => (v - from) / length;
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  const above = marks.length ? 20 : 4, bottom = above + lines.length * height;
  return html`<svg height=${bottom + 20} role="img" aria-label=${name}>
    ${ticks.map((t) => html`<g key=${t}><line class="grid" x1=${pct(t)} x2=${pct(t)} y1=${above} y2=${bottom} /><text class=${t === 0.25 || t === 0.75 ? "between" : null} x=${pct(t)} y=${bottom + 14} text-anchor=${t === 0 ? "start" : t === 1 ? "end" : "middle"}>${label(from + t * length)}</text></g>`)}
    ${lines.map((l, i) => html`<g key=${i}>
      ${l.spans.map((s, k) => html`<rect key=${k} class=${s.phase ? "phase-" + s.phase : null} style=${s.fill ? { fill: s.fill } : null} x=${pct(x(s.from))} width=${pct(Math.max(0.0015, x(s.to) - Math.max(0, x(s.from))))} y=${above + i * height + 3} height=${height - 10} rx="2"><title>${s.title}</title></rect>`)}
      ${l.tint !== undefined && html`<rect x=${pct(x(l.from))} width=${pct(x(l.to) - Math.max(0, x(l.from)))} y=${above + i * height + height - 6} height=${l.on ? 3 : 2} fill=${colour(l.tint)} />`}</g>`)}
    ${grouped(marks, x).map(({ at, mark, means, anchor }) => html`<g key=${mark}><line x1=${pct(at)} x2=${pct(at)} y1="16" y2=${bottom} stroke="currentColor" stroke-opacity=".35" stroke-dasharray="2 3" />
      <text x=${pct(at)} y="12" text-anchor=${anchor}>${mark}<title>${means}</title></text></g>`)}
  </svg>`;
}

// grouped gives marks that stand close to each other one label.
function grouped(marks, x) {
  const out = [];
  for (const m of marks.filter((m) => m.at_us !== null && m.at_us !== undefined).sort((a, b) => a.at_us - b.at_us)) {
    const at = x(m.at_us), last = out.at(-1), means = `${m.mark}: ${m.means}`;
    if (last && at - last.at < 0.025) Object.assign(last, { mark: `${last.mark} · ${m.mark}`, means: `${last.means}; ${means}` });
    else out.push({ at, mark: m.mark, means, anchor: at > 0.95 ? "end" : at < 0.03 ? "start" : "middle" });
  }
  return out;
}

// Parts is one bar of parts [{name, value, fill}] with a whisker of ± sigma at its end.
export function Parts({ parts, sigma, max, name }) {
  const total = parts.reduce((n, p) => n + p.value, 0), end = max || (total + (sigma || 0)) * 1.04 || 1;
  let base = 0;
  return html`<svg height="30" role="img" aria-label=${name}>
    ${parts.map((p) => { const left = base; base += p.value; return html`<rect key=${p.name} x=${pct(left / end)} width=${pct(p.value / end)} y="4" height="18" rx="2" style=${{ fill: p.fill }}><title>${p.name}: ${p.text}</title></rect>`; })}
    ${sigma ? html`<line x1=${pct((total - sigma) / end)} x2=${pct((total + sigma) / end)} y1="13" y2="13" stroke="currentColor" stroke-width="1.5" />
      ${[total - sigma, total + sigma].map((v) => html`<line key=${v} x1=${pct(v / end)} x2=${pct(v / end)} y1="8" y2="18" stroke="currentColor" stroke-width="1.5" />`)}` : null}</svg>`;
}

// Bars: a bar for each of items, stacked from parts(item) -> [[class or fill, value, title]]; y axis with unit. breaks
// [{before, text}] are vertical marks before an item.
export function Bars({ items, parts, unit, height = 130, name, onClick, text, breaks = [] }) {
  const sums = items.map((i) => parts(i).reduce((n, p) => n + (p[1] || 0), 0));
  const max = niceMax(largest(sums, 0)), n = items.length || 1, left = 7;
  const w = (100 - left) / Math.max(n, 10);
  return html`<svg height=${height + 20} role="img" aria-label=${name}>
    ${[0, 0.5, 1].map((t) => html`<g key=${t}><line class="grid" x1=${left + "%"} x2="100%" y1=${height - t * (height - 10)} y2=${height - t * (height - 10)} /><text x=${left - 0.6 + "%"} y=${height - t * (height - 10) + 4} text-anchor="end">${trimmed(unit(max * t))}</text></g>`)}
    ${items.map((item, i) => {
    let base = height;
    return html`<g key=${i} onClick=${onClick && (() => onClick(item))} style=${onClick ? { cursor: "pointer" } : null}>${parts(item).map(([fill, value, title], k) => {
      const h = ((value || 0) / max) * (height - 10);
      base -= h;
      return html`<rect key=${k} class=${fill.startsWith("phase-") ? fill : null} style=${fill.startsWith("phase-") ? null : { fill }} x=${left + i * w + w * 0.1 + "%"} width=${Math.max(w * 0.8, 0.1) + "%"} y=${base} height=${Math.max(0, h)}><title>${title}</title></rect>`;
    })}${text && n <= 40 ? html`<text x=${left + (i + 0.5) * w + "%"} y=${height + 14} text-anchor="middle">${text(item, i)}</text>` : null}</g>`;
  })}
    ${breaks.map(({ before, text: t }) => { const x = left + before * w + "%"; return html`<g key=${before}><line x1=${x} x2=${x} y1="0" y2=${height} stroke="currentColor" stroke-opacity=".6" stroke-dasharray="3 3" />
      <text x=${x} y="8" dx=${before > n / 2 ? -4 : 4} text-anchor=${before > n / 2 ? "end" : "start"}>${t}<title>${t}</title></text></g>`; })}</svg>`;
}
