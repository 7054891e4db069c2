// A selected span: its requests, tokens, joules and watts, from the same steps that the chart draws.
import { html } from "../lib/html.js";
import { change, href } from "../lib/route.js";
import { bars } from "../lib/live.js";
import { sumSpan } from "../lib/lanes.js";
import { PlusMinus, count, energyOf, joules, none, span, sqlTime, timeOfDay, watts } from "../lib/format.js";
import { Section, Stat, Who } from "../lib/parts.js";
import { Copy } from "../lib/copy.js";

// measure is what the page says of a span; steps is the answer of power().
export function measure(from, to, { steps, step }) {
  const sum = sumSpan(steps, step, from, to);
  const all = bars(from, to).filter((b) => b.end > from && b.start < to);
  let tokens = 0, whole = true, variance = 0, guessed = 0; // guessed: of requests without joules of their own
  for (const b of all) {
    const decode = b.phases.find((p) => p.phase === "decode") || { from: b.start, to: b.end };
    const length = decode.to - decode.from;
    const part = length > 0 ? Math.max(0, Math.min(to, decode.to) - Math.max(from, decode.from)) / length : decode.from >= from && decode.from < to ? 1 : 0;
    if ((part > 0 && part < 1) || b.open) whole = false;
    tokens += part * (b.who.output_tokens ?? b.who.output_events ?? 0);
    const active = sum.requests.get(b.id) || 0;
    if ((b.who.gpu_active_uj ?? null) === null) guessed += active;
    if (active && b.who.gpu_active_uj) variance += ((b.who.gpu_active_sigma_uj || b.who.gpu_sigma_uj || 0) * Math.min(1, active / b.who.gpu_active_uj)) ** 2;
  }
  const active = [...sum.requests.values()].reduce((a, b) => a + b, 0);
  return { ...sum, active, guessed, tokens, whole, sigma: Math.sqrt(variance), bars: all };
}

export function Selection({ from, to, steps, by }) {
  const m = measure(from, to, steps);
  const iso = [from, to].map((t) => new Date(t).toISOString());
  const groups = new Map();
  for (const b of m.bars) {
    const name = b.who[by] ?? null;
    const g = groups.get(name) || { n: 0, uj: 0 };
    g.n++;
    g.uj += m.requests.get(b.id) || 0;
    groups.set(name, g);
  }
  const rows = [...groups].sort((a, b) => b[1].uj - a[1].uj);
  return html`<${Section} title="Selected span" note=${`${timeOfDay(from)} to ${timeOfDay(to)}, ${span((to - from) * 1000)}`}
    tools=${html`<span><a href=${href("requests", "", { from: iso[0], to: iso[1], all: 1 })}>its requests</a>
      <${Copy} command=${`wattline query "SELECT * FROM efficiency WHERE started_at >= '${sqlTime(from)}' AND started_at < '${sqlTime(to)}'"`} table=${() => spanTable(m, by)} name="span" />
      ${" "}<button type="button" onClick=${() => change({ a: undefined, z: undefined })}>clear</button></span>`}>
    <div class="figures inner" data-active-uj=${m.active} data-guessed-uj=${m.guessed} data-uj=${m.uj}>
      <${Stat} name="Requests">${count(m.bars.length)}<//>
      <${Stat} name="Output tokens" note=${m.whole ? "" : "≈ by time, where cut"}>${count(Math.round(m.tokens))}<//>
      <${Stat} name="Requests' active energy" title=${joules(m.active)} note=${m.guessed > 0.001 * m.active ? `≈ ${joules(m.guessed)} of it not settled` : ""}><${PlusMinus} value=${m.active / 1e6} sigma=${m.sigma / 1e6} /><//>
      <${Stat} name="Device" note=${`idle ${joules(m.idle)}, residual ${joules(m.residual)}`}>${joules(m.uj)}<//>
      <${Stat} name="Mean power">${m.covered ? watts(m.uj / m.covered) : none}<//>
    </div>
    ${m.covered < (to - from) * 0.98 && html`<p class="warn">${m.covered ? `Only ${span(m.covered * 1000)} of it are` : "None of it is"} in this page's memory; <a href=${href("energy", "", { from: iso[0], to: iso[1], bucket: "minute" })}>the page Energy</a> has older times.</p>`}
    ${m.provisional && html`<p class="soft">Part of it is provisional: it settles when its requests have their joules.</p>`}
    <table><thead><tr><th>${by}</th><th class="r">requests</th><th class="r">active energy</th><th class="r">of the device</th></tr></thead>
    <tbody>${rows.map(([name, g]) => html`<tr key=${name}><td><${Who} name=${name} /></td><td class="r">${g.n}</td><td class="r">${joules(g.uj)}</td><td class="r">${m.uj ? Math.round((100 * g.uj) / m.uj) + " %" : none}</td></tr>`)}</tbody></table><//>`;
}

function spanTable(m, by) {
  return { columns: ["id", by, "started_at", "active_uj_in_span", "gpu_uj", "output_tokens", "outcome"],
    rows: m.bars.map((b) => [b.id, b.who[by], b.who.started_at, Math.round(m.requests.get(b.id) || 0), energyOf(b.who) ?? null, b.who.output_tokens ?? null, b.outcome]) };
}
