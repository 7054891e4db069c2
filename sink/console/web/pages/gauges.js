// The devices' own readings on the time axis of the Energy page: power, temperature, clock, memory, throttling.
import { html } from "../lib/html.js";
import { TimeChart, niceMax } from "../lib/chart.js";
import { ink } from "../lib/colour.js";
import { at, bytes, digits, largest, scaled, span, sqlTime, watts, when } from "../lib/format.js";
import { Copy, quoted } from "../lib/copy.js";
import { Section } from "../lib/parts.js";

const charts = [
  { title: "Power", lines: [["mean_mw", "accent", "mean"], ["max_mw", "soft", "highest"], ["limit_mw", "bad", "limit"]], unit: watts, kind: "W", base: 1e-3 },
  { title: "Temperature", lines: [["temp_c", "prefill", "highest"]], unit: (v) => digits(v) + " °C" },
  { title: "Core clock", lines: [["sm_clock_mhz", "accent", "clock"]], unit: (v) => digits(v) + " MHz" },
  { title: "Memory", lines: [["vram_bytes", "accent", "used"]], unit: bytes, kind: "B", base: 1 },
  { title: "Throttled", lines: [["throttled_us", "bad", "clocks held down"]], unit: (v) => (v ? span(v) : "0"), kind: "s", base: 1e-6 },
];

export function Gauges({ buckets, marks, from, to }) {
  const has = (c) => buckets.some((b) => b[c.lines[0][0]] !== null && b[c.lines[0][0]] !== undefined);
  const shown = charts.filter(has).filter((c) => c.title !== "Throttled" || buckets.some((b) => b.throttled_us > 0));
  const calm = has(charts[4]) && !shown.includes(charts[4]);
  const copy = (c) => { const keys = c.lines.map(([k]) => k); return html`<${Copy} name=${c.title.toLowerCase()} command=${`wattline query ${quoted(`SELECT * FROM power WHERE at >= '${sqlTime(from)}' AND at < '${sqlTime(to)}'`)}`}
    table=${() => ({ columns: ["at", ...keys], rows: buckets.map((b) => [b.at, ...keys.map((k) => b[k])]) })} />`; };
  return html`<div class="columns">${shown.map((c) => html`<${Section} key=${c.title} title=${c.title} tools=${copy(c)} note=${c.lines.length > 1 ? c.lines.map(([k, tint, text]) => html`<span key=${k}><span class="chip" style=${{ background: ink(tint) }}></span>${text} </span>`) : c.lines[0][2]}>
    <${Line} c=${c} buckets=${buckets} marks=${marks} from=${from} to=${to} /><//>`)}</div>
    ${calm && html`<p class="soft">The clocks were never held down in this time.</p>`}`;
}

function Line({ c, buckets, marks, from, to }) {
  const most = largest(buckets.flatMap((b) => c.lines.map(([k]) => b[k] || 0)), 0);
  const size = c.kind ? scaled(most * c.base, c.kind)[0] / c.base : 1, max = niceMax(most / size) * size;
  const draw = (ctx, x, y) => {
    for (const [key, tint] of c.lines) {
      ctx.strokeStyle = ink(tint);
      ctx.lineWidth = tint === "soft" ? 1 : 1.6;
      ctx.setLineDash(key === "limit_mw" ? [4, 3] : []);
      ctx.beginPath();
      let open = false;
      for (const b of buckets) {
        const v = b[key];
        if (v === null || v === undefined) { open = false; continue; }
        const left = x(at(b.at)), right = x(at(b.at) + b.span_us / 1000);
        if (open) ctx.lineTo(left, y(v)); else ctx.moveTo(left, y(v));
        ctx.lineTo(right, y(v));
        open = true;
      }
      ctx.stroke();
      ctx.setLineDash([]);
    }
  };
  const hover = (t) => {
    const b = buckets.find((one) => t >= at(one.at) && t < at(one.at) + one.span_us / 1000);
    return b && html`${when(b.at)}<table><tbody>${c.lines.filter(([k]) => b[k] !== null && b[k] !== undefined).map(([k, , text]) => html`<tr key=${k}><td>${text}</td><td class="r">${c.unit(b[k])}</td></tr>`)}</tbody></table>`;
  };
  return html`<${TimeChart} from=${from} to=${to} height=${120} max=${max} size=${size} unit=${c.unit} draw=${draw} marks=${marks} markText=${false} hover=${hover} label=${`${c.title} over the time`} />`;
}
