// The strip of figures at the top of Live.
import { html } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { live, now } from "../lib/live.js";
import { PlusMinus, at, digits, energyOf, money, none, quantity, smallest, span, watts } from "../lib/format.js";
import { Stat } from "../lib/parts.js";

export function Figures({ hello, device, limit }) {
  const open = [...live.requests.values()].filter((r) => !r.done);
  const waiting = open.filter((r) => r.phase === "queue" || r.phase === "sending");
  const rate = open.reduce((n, r) => n + (r.phase === "decode" ? r.events_per_second || 0 : 0), 0);
  const devices = [...live.devices].filter(([d]) => !device || d === device).map(([, s]) => s);
  const fresh = devices.length > 0 && devices.every((s) => s.last * s.step > now() - 10000 && s.at.has(s.last));
  const watt = fresh ? devices.reduce((n, s) => n + s.at.get(s.last).mw, 0) : null;
  const slots = Object.values(live.hello?.slots || {}).reduce((a, b) => a + b, 0);
  const token = perToken();
  const longest = waiting.length ? now() - smallest(waiting.map((r) => at(r.phases.at(-1)?.at || r.started_at))) : 0;
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const today = useAsk("/api/sum", { from: midnight.toISOString() }, 20000);
  const sum = today.data?.[0];
  return html`<div class="figures">
    <${Stat} name="Output" note="tokens/s" title="events with output a second, over the requests in decode">${digits(rate)}<//>
    <${Stat} name="Power" note=${limit ? `W of ${digits(limit / 1000)}` : "W"} title=${fresh ? `newest step of the device: ${watts(watt)}` : "no reading in the last 10 s"}>${watt === null ? none : digits(watt / 1000)}<//>
    <${Stat} name="Energy per token" title="requests of the last 2 minutes that have settled: joules / output tokens">${token ? html`<${PlusMinus} value=${token.j} sigma=${token.sigma} />` : none}<//>
    <${Stat} name="In flight" note=${slots ? `of ${slots} slots` : ""}>${open.length - waiting.length}<//>
    <${Stat} name="Waiting" note=${waiting.length ? `longest ${span(Math.max(0, longest) * 1000)}` : ""}>${waiting.length}<//>
    <${Stat} name="Today" note=${sum && sum.cost !== null ? `· ${money(sum.cost, hello.currency)}` : sum ? `· ${sum.requests} requests` : ""}
      title="the requests' joules since local midnight; what the devices drew beside them is on the page Energy">${sum && sum.requests_with_energy ? quantity(sum.energy_uj / 1e6, "J") : none}<//>
  </div>`;
}

// perToken is the last minutes' energy per token with its standard error.
function perToken() {
  let uj = 0, variance = 0, tokens = 0;
  for (const row of live.rows.values()) {
    const e = energyOf(row) ?? row.gpu_estimate_uj;
    if (e === null || e === undefined || !row.output_tokens || at(row.started_at) < now() - 120000) continue;
    uj += e;
    variance += (row.gpu_sigma_uj || 0) ** 2;
    tokens += row.output_tokens;
  }
  return tokens ? { j: uj / tokens / 1e6, sigma: Math.sqrt(variance) / tokens / 1e6 } : null;
}
