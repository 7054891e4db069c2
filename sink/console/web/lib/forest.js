// The effects of run B against run A as a forest plot. of is the answer of /api/compare.
import { html } from "./html.js";

export function Forest({ of }) {
  const p = of.plot;
  if (!of.rows.length) return null;
  return html`<svg class="forest" viewBox=${`0 0 ${p.width} ${p.height}`} role="img" aria-label="effects of B against A with 95 % intervals">
    <rect class="band" x=${p.margin_low} y="30" width=${p.margin_width} height=${p.height} />
    ${p.ticks.map((t) => html`<g key=${t.text}><line class="grid" x1=${t.x} x2=${t.x} y1="26" y2=${p.height} /><text x=${t.x} y="20" text-anchor="middle">${t.text}</text></g>`)}
    <line class="zero" x1=${p.zero} x2=${p.zero} y1="26" y2=${p.height} />
    ${p.lines.map((l) => html`<g key=${l.y} class=${l.class}><text x=${l.whole ? 0 : 16} y=${l.y} dy=".35em" font-weight=${l.whole ? 600 : 400}>${l.name}</text>
      ${l.known && html`<line class="mark" x1=${l.from} x2=${l.to} y1=${l.y} y2=${l.y} />`}<circle class="mark" cx=${l.x} cy=${l.y} r=${l.whole ? 4 : 2.5} /><text x="675" y=${l.y} dy=".35em">${l.text}</text></g>`)}
  </svg>`;
}
