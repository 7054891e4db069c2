// Energy: what the devices drew, by the minute to the month, divided among agents, models or labels, with idle and residual;
// the ledger's own sum must agree with the counter to the microjoule.
import { html, useState } from "../lib/html.js";
import { change, href } from "../lib/route.js";
import { useAsk } from "../lib/api.js";
import { live } from "../lib/live.js";
import { TimeChart, niceMax } from "../lib/chart.js";
import { colour, hatch, ink } from "../lib/colour.js";
import { useMarks } from "../lib/configs.js";
import { PlusMinus, at, count, digits, joules, largest, money, none, quantity, scaled, thousands, watts, when, zone } from "../lib/format.js";
import { Choice, Legend, Loaded, Section, Stat, Who } from "../lib/parts.js";
import { Copy, flag } from "../lib/copy.js";
import { Gauges } from "./gauges.js";

const spans = [["1h", "1 h", 36e5, "minute"], ["6h", "6 h", 216e5, "5m"], ["24h", "24 h", 864e5, "hour"], ["7d", "7 days", 6048e5, "hour"], ["30d", "30 days", 2592e6, "day"], ["1y", "1 year", 31536e6, "month"]];
const buckets = [["minute", "minute"], ["5m", "5 min"], ["hour", "hour"], ["day", "day"], ["month", "month"]];
const groups = ["agent", "model", "session", "user", "route"];

// spanOf reads the time from the address: from and to, or a length that ends now.
export function spanOf(params, now) {
  const [from, to] = [at(params.get("from") || NaN), at(params.get("to") || NaN)];
  if (from < to) {
    return { from, to, bucket: params.get("bucket") || spans.find((s) => to - from <= s[2])?.[3] || "month", fixed: true };
  }
  const chosen = spans.find(([v]) => v === (params.get("since") || "24h")) || spans[2];
  return { from: now - chosen[2], to: now, bucket: params.get("bucket") || chosen[3], since: chosen[0] };
}

export default function EnergyPage({ route, hello }) {
  const p = route.params;
  const [now] = useState(() => Math.ceil(Date.now() / 60000) * 60000);
  const { from, to, bucket, since } = spanOf(p, now);
  const by = p.get("by") || "agent";
  const device = p.get("device") || "";
  const asked = { from: new Date(from).toISOString(), to: new Date(to).toISOString(), bucket, by, tz: zone, ...(device && { device }) };
  const energy = useAsk("/api/energy", asked);
  const shares = useAsk("/api/sum", { from: asked.from, to: asked.to, by, all: 1 });
  const marks = useMarks(from, to);
  const devices = [...new Set([...(energy.data?.measured_devices || []), ...(device ? [device] : [])])];
  const command = `wattline usage --by ${/^(agent|session|model|user)$/.test(by) ? by : by.startsWith("label:") ? "label" : "agent"} --all ${flag("--since", since || asked.from.slice(0, 10))}`;
  const label = by.startsWith("label:") ? by.slice(6) : "";
  return html`<h1>Energy <small>${when(from)} to ${when(to)}, ${zone}</small></h1>
    <div class="filters">
      <${Choice} label="time" options=${spans.map(([v, t]) => [v, t])} value=${since} onChange=${(v) => change({ since: v === "24h" ? "" : v, from: "", to: "", bucket: "" })} />
      <${Choice} label="bar" options=${buckets} value=${bucket} onChange=${(v) => change({ bucket: v })} />
      <${Choice} label="divided by" options=${groups.map((g) => [g, g])} value=${by} onChange=${(v) => change({ by: v === "agent" ? "" : v })} />
      <label>label<input name="label" value=${label} placeholder="name" onChange=${(e) => change({ by: e.target.value.trim() ? "label:" + e.target.value.trim() : "" })} /></label>
      ${devices.length > 1 && html`<label>device<select name="device" value=${device} onChange=${(e) => change({ device: e.target.value })}><option value="">all ${devices.length}</option>
        ${devices.map((d) => html`<option key=${d} value=${d}>${nameOf(d)}</option>`)}</select></label>`}
    </div>
    <${Loaded} of=${energy}>${(e) => html`<${Answer} e=${e} by=${by} marks=${marks} hello=${hello} asked=${asked} command=${command} />`}<//>
    <${Section} title=${`Who drew it, by ${by.replace("label:", "label ")}`} note=${`requests that began in this time, with their share of the idle draw${device ? "; on all devices" : ""}`}
      tools=${html`<${Copy} command=${command} name="usage" table=${() => shareTable(shares.data || [])} />`}>
      <${Loaded} of=${shares} empty="No requests in this time.">${(rows) => html`<${Shares} rows=${rows} by=${by} asked=${asked} hello=${hello} />`}<//><//>`;
}

const nameOf = (device) => { const d = live.hello?.devices?.find((one) => one.device === device); return d ? `${d.name} · ${device}` : device; };
const total = (list, key) => list.reduce((n, b) => (b[key] === null || b[key] === undefined ? n : (n ?? 0) + b[key]), null);

function Answer({ e, by, marks, hello, asked, command }) {
  const b = e.buckets || [];
  if (!b.some((x) => x.covered_us || x.mean_mw !== null)) return html`<${Section} title="Energy"><p class="soft">No power was measured in this time. wattline gpu says which sources this machine has.</p><//>`;
  const sum = Object.fromEntries(["counter_uj", "requests_active_uj", "requests_idle_uj", "pools_uj", "idle_uj", "residual_uj", "difference_uj", "cost", "gco2", "covered_us", "span_us", "throttled_us"].map((k) => [k, total(b, k)]));
  const expected = b.reduce((n, x) => n + due(x, asked), 0);
  const requests = (sum.requests_active_uj || 0) + (sum.requests_idle_uj || 0) + (sum.pools_uj || 0);
  return html`
    <div class="figures">
      <${Stat} name="Devices">${quantity(uj(sum.counter_uj), "J")}<//>
      <${Stat} name="Requests" note=${share(requests, sum.counter_uj)}>${quantity(requests / 1e6, "J")}<//>
      <${Stat} name="Idle, no request" note=${share(sum.idle_uj, sum.counter_uj)}>${quantity(uj(sum.idle_uj), "J")}<//>
      <${Stat} name="Residual" note=${share(sum.residual_uj, sum.counter_uj)} title="draw that no request caused: other programs, cool-down, what the model of work cannot explain">${quantity(uj(sum.residual_uj), "J")}<//>
      ${sum.cost !== null && html`<${Stat} name="Cost">${money(sum.cost, hello.currency)}<//>`}
      ${sum.gco2 !== null && html`<${Stat} name="CO₂e">${quantity(sum.gco2, "g")}<//>`}
      <${Stat} name="Mean power" note=${sum.covered_us < expected * 0.99 ? `${Math.round((100 * sum.covered_us) / expected)} % measured` : ""}>${sum.covered_us ? watts((sum.counter_uj / sum.covered_us) * 1000) : none}<//>
    </div>
    <${Section} title=${`Energy by ${by.replace("label:", "label ")}`} note=${`a bar is ${{ minute: "a minute", "5m": "5 minutes", hour: "an hour", day: "a day", month: "a month" }[asked.bucket] || asked.bucket} · drag to look closer`}
      tools=${html`<${Copy} command=${command} name="energy" table=${() => bucketTable(e)} />`}>
      <${BarChart} e=${e} marks=${marks} asked=${asked} />
      <${Legend} items=${[[ink("idle"), "idle, no request"], ...e.keys.map((k) => [tint(k), named(k)]), [ink("other"), "requests across an edge"], ["", "residual", "residual"], [ink("gap"), "not measured", "hatched"]]} />
      <p class="soft" data-difference=${sum.difference_uj}>Counter ${joules(sum.counter_uj)} = requests ${joules(requests)} + idle ${joules(sum.idle_uj)} + residual ${joules(sum.residual_uj)};
        difference ${sum.difference_uj === 0 ? html`<b>0 µJ</b>` : html`<b class="bad-text">${thousands(sum.difference_uj)} µJ: the ledger does not add up; wattline query --name ledger shows where</b>`}</p>
    <//>
    <${Gauges} buckets=${b} marks=${marks} from=${at(asked.from)} to=${at(asked.to)} />`;
}

// due is how much of a bucket can have readings, in us: what was asked for, up to the present less what settles late.
function due(x, asked) {
  const begin = at(x.at), from = Math.max(begin, at(asked.from)), to = Math.min(begin + x.span_us / 1000, at(asked.to), Date.now() - 120000);
  return Math.max(0, to - from) * 1000;
}

const uj = (v) => (v === null || v === undefined ? null : v / 1e6);
const share = (a, b) => (b && a !== null && a !== undefined ? `${digits((100 * a) / b)} %` : "");
const named = (k) => (k === null || k === "" ? "unnamed" : k);
const tint = (k) => (k === "…" ? ink("other") : colour(k));

function BarChart({ e, marks, asked }) {
  const b = e.buckets.map((x) => ({ ...x, from: at(x.at), to: at(x.at) + x.span_us / 1000 }));
  const from = Math.min(at(asked.from), b[0].from), to = Math.max(at(asked.to), b.at(-1).to);
  // Rows that drew part of their energy in a later bucket are cut to what this bucket's ledger has.
  const part = (x) => (x.edges_uj < 0 ? Math.max(0, 1 + x.edges_uj / x.by_key.reduce((n, v) => n + v, 0)) : 1);
  const stack = (x) => [[ink("idle"), x.idle_uj, "idle, no request"], ...x.by_key.map((v, i) => [tint(e.keys[i]), v * part(x), named(e.keys[i])]), [ink("other"), x.edges_uj, "across an edge"], [ink("residual"), x.residual_uj, "residual"]].filter((p) => p[1] > 0);
  const most = largest(b.map((x) => stack(x).reduce((n, p) => n + p[1], 0)), 1);
  const size = scaled(most / 1e6, "J")[0] * 1e6, top = niceMax(most / size) * size;
  const gaps = b.filter((x) => x.covered_us !== null && x.covered_us < due(x, asked) * 0.99)
    .map((x) => ({ from: x.from, to: x.to, reason: `only ${digits((100 * x.covered_us) / due(x, asked))} % of this time has power readings (wattline off, or the device not readable)` }));
  const find = (t) => b.find((x) => t >= x.from && t < x.to);
  const draw = (ctx, x, y) => {
    for (const one of b) {
      const wide = x(one.to) - x(one.from), left = x(one.from) + Math.min(2, wide * 0.1), width = Math.max(1, wide - Math.min(4, wide * 0.2));
      let base = 0;
      for (const [fill, value] of stack(one)) {
        ctx.fillStyle = fill === ink("residual") ? hatch(ctx, fill, true) : fill;
        ctx.fillRect(left, y(base + value), width, Math.max(0.5, y(base) - y(base + value)));
        base += value;
      }
    }
  };
  return html`<${TimeChart} from=${from} to=${to} height=${250} max=${top} size=${size} unit=${joules} draw=${draw} marks=${marks} gaps=${gaps} label=${`Energy in ${b.length} bars`}
    onSelect=${(a, z) => change({ from: new Date(a).toISOString(), to: new Date(z).toISOString(), since: "", bucket: "" })}
    hover=${(t) => { const x = find(t); return x && html`<b>${joules(x.counter_uj)}</b> from ${when(x.from)}<table><tbody>${stack(x).map(([, v, n]) => html`<tr key=${n}><td>${n}</td><td class="r">${joules(v)}</td></tr>`)}</tbody></table>`; }} />`;
}

function Shares({ rows, by, asked, hello }) {
  const priced = rows.some((r) => r.cost !== null), green = rows.some((r) => r.gco2 !== null);
  const filter = (k) => (by.startsWith("label:") ? { label: k === null ? undefined : `${by.slice(6)}=${k}` } : { [by]: k });
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${"table of energy by " + by}><table><thead><tr><th>${by}</th><th class="r">requests</th><th class="r wide">in</th><th class="r wide">out</th><th class="r">energy</th><th class="r">J/token</th>${priced && html`<th class="r">cost</th>`}${green && html`<th class="r wide">CO₂e</th>`}</tr></thead>
    <tbody>${rows.map((r) => html`<tr key=${r.key}><td><a href=${href("requests", "", { ...filter(r.key), from: asked.from, to: asked.to, all: 1 })}><${Who} name=${r.key} /></a></td><td class="r">${count(r.requests)}</td><td class="r wide">${count(r.prompt_tokens)}</td><td class="r wide">${count(r.output_tokens)}</td>
      <td class="r"><${PlusMinus} value=${r.requests_with_energy ? r.energy_uj / 1e6 : null} sigma=${r.sigma_uj / 1e6} title=${`${r.requests_with_energy} of ${r.requests} requests have an energy`} /></td><td class="r">${r.output_tokens && r.requests_with_energy ? digits(r.energy_uj / 1e6 / r.output_tokens) : none}</td>
      ${priced && html`<td class="r">${money(r.cost, hello.currency)}</td>`}${green && html`<td class="r wide">${quantity(r.gco2, "g")}</td>`}</tr>`)}</tbody></table></div>`;
}

function bucketTable(e) {
  const own = ["at", "span_us", "covered_us", "counter_uj", "requests_active_uj", "requests_idle_uj", "pools_uj", "idle_uj", "residual_uj", "difference_uj", "edges_uj", "cost", "gco2", "mean_mw", "max_mw", "temp_c", "vram_bytes", "sm_clock_mhz", "throttled_us", "limit_mw"];
  return { columns: [...own, ...e.keys.map((k) => `${e.by}:${named(k)}_uj`)], rows: e.buckets.map((b) => [...own.map((c) => b[c]), ...b.by_key]) };
}

function shareTable(rows) {
  const own = ["key", "requests", "prompt_tokens", "cached_tokens", "output_tokens", "energy_uj", "sigma_uj", "idle_uj", "cost", "gco2"];
  return { columns: own, rows: rows.map((r) => own.map((c) => r[c])) };
}

