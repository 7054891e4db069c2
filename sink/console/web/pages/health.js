// Health: sources and how far they can be trusted, losses, what waits to be shipped, and how the configuration changed.
import { html } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { live } from "../lib/live.js";
import { changeWords } from "../lib/configs.js";
import { count, exactly, none, span, watts, when } from "../lib/format.js";
import { Loaded, Section } from "../lib/parts.js";
import { Copy } from "../lib/copy.js";

export default function Health({ hello }) {
  const status = useAsk("/api/status", null, 5000);
  const configs = useAsk("/api/configs", null, 30000);
  return html`<h1>Health <small>wattline ${hello.version} on ${hello.instance} · rows in ${hello.rows || hello.engine}</small></h1>
    <div class="columns">
      <${Section} title="Now"><${Loaded} of=${status}>${(s) => html`<${Verdicts} s=${s} />`}<//><//>
      <${Section} title="Power sources" tools=${html`<${Copy} command="wattline gpu" name="sources" table=${sourceTable} />`}><${Sources} /><//>
    </div>
    <${Section} title="Counters" note="since the start of wattline" tools=${html`<${Copy} command=${`curl -s ${location.origin}/api/status`} name="status" table=${() => ({ columns: ["name", "value"], rows: flat(status.data || {}) })} />`}>
      <${Loaded} of=${status}>${(s) => html`<div class="columns small">${groups(s).map(([name, rows]) => html`<div key=${name}><h3>${name}</h3><dl>${rows.map(([k, v]) => html`<dt key=${k}>${/PPM$/.test(k) ? k.slice(0, -3) : k}</dt><dd class=${alarming(k, v) ? "bad-text" : ""}>${word(v, k)}</dd>`)}</dl></div>`)}</div>`}<//><//>
    <${Section} title="Configurations" note="the newest first; each change is a vertical mark on every time axis"
      tools=${html`<${Copy} command=${'wattline query "SELECT * FROM configs ORDER BY at DESC"'} name="configs" table=${() => configTable(configs.data || [])} />`}>
      <${Loaded} of=${configs} empty="No configuration was seen yet: wattline asks the server for it once it answers.">${(rows) => html`<${Configs} rows=${rows} />`}<//><//>`;
}

// Verdicts say in sentences what is well and what is not.
function Verdicts({ s }) {
  const lost = ["Requests", "Settled", "Samples"].map((k) => [k, (s[k]?.Dropped || 0) + (s[k]?.Lost || 0)]).filter(([, n]) => n > 0);
  const failing = !!s.LastError;
  const says = [
    lost.length ? [false, `rows were lost: ${lost.map(([k, n]) => `${count(n)} of ${k.toLowerCase()}`).join(", ")}`] : [true, "no row was lost"],
    failing ? [false, `the store cannot be written: ${s.LastError}`] : [true, s.Waiting ? `${count(s.Waiting)} rows wait to be written` : "every row is written"],
    ...(live.state === "lost" ? [[false, "the live connection is lost"]] : []),
    ...live.gaps.filter((g) => !g.to).map((g) => [false, `${g.device} cannot be read: ${g.reason}`]),
    ...(Array.isArray(s.notes) ? s.notes.map((n) => [false, n]) : []),
  ];
  return html`<ul class="list">${says.map(([good, text]) => html`<li key=${text}><span class=${"dot" + (good ? "" : " lost")}></span>${text}</li>`)}</ul>`;
}

function Sources() {
  const devices = live.hello?.devices || [];
  if (!devices.length) return html`<p class="soft">No power source here: wattline gpu says why, and what would give one.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="table of devices"><table><thead><tr><th>device</th><th>source</th><th class="r">limit</th><th class="r">idle, learnt</th><th>reading</th></tr></thead><tbody>${devices.map((d) => {
    const steps = live.devices.get(d.device), age = steps ? Date.now() + live.skew - steps.last * steps.step : null;
    return html`<tr key=${d.device}><td class="wrap">${d.name}${d.simulated ? " (simulated)" : ""}<br /><span class="pm">${d.device}</span></td><td>${d.source}${d.driver ? ` · driver ${d.driver}` : ""}</td><td class="r">${watts(d.power_limit_mw)}</td><td class="r">${watts(d.idle_mw)}</td>
      <td class=${age === null || age > 5000 ? "bad-text" : ""}>${age === null ? "none yet" : age > 5000 ? `${span(age * 1000)} old` : "fresh"}</td></tr>`;
  })}</tbody></table></div>`;
}

function sourceTable() {
  const columns = ["device", "name", "source", "driver", "simulated", "power_limit_mw", "idle_mw"];
  return { columns, rows: (live.hello?.devices || []).map((d) => columns.map((k) => d[k])) };
}

const shown = [["server_build", "build"], ["model", "model"], ["quantisation", "quantisation"], ["slots", "slots"], ["context_tokens", "context"], ["gpu_power_limit_mw", "limit"], ["driver", "driver"]];

function Configs({ rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="table of configurations"><table><thead><tr><th>since</th><th>change</th>${shown.map(([k, t]) => html`<th key=${k}>${t}</th>`)}<th>flags</th></tr></thead>
    <tbody>${rows.map((c) => { const changed = [].concat(c.changed || []); return html`<tr key=${c.at + c.config_id}><td title=${exactly(c.at)}>${when(c.at)}</td><td>${changed.length ? changeWords(c) : html`<span class="pm">first seen</span>`}</td>
      ${shown.map(([k]) => html`<td key=${k} class=${changed.includes(k) ? "warn" : ""}>${k === "gpu_power_limit_mw" ? watts(c[k]) : c[k] ?? none}</td>`)}<td class="wrap"><code>${[].concat(c.server_flags ?? none).join(" ")}</code></td></tr>`; })}</tbody></table></div>`;
}

const configTable = (rows) => { const c = ["at", "changed", "config_id", "upstream", ...shown.map(([k]) => k), "server_flags"]; return { columns: c, rows: rows.map((r) => c.map((k) => r[k])) }; };

// groups lays the status out: numbers of the top under "Queue", and each object, of a list too, under its own name.
function groups(s) {
  const out = [];
  const add = (name, v) => {
    const own = Object.entries(v).filter(([k, x]) => (typeof x !== "object" || x === null) && k !== "ID" && k !== "Route");
    if (own.length) out.push([name, own]);
    for (const [k, x] of Object.entries(v)) {
      if (Array.isArray(x) && x.every((y) => y !== null && typeof y === "object")) x.forEach((y, i) => add([name === "Queue" ? "" : name, spaced(k), y.ID || y.Route || i].filter((t) => t !== "").join(" "), y));
      else if (x !== null && typeof x === "object") add(name === "Queue" ? spaced(k) : `${name} ${spaced(k)}`, x);
    }
  };
  add("Queue", s);
  return out;
}

const spaced = (k) => k.replace(/([a-z])([A-Z])/g, "$1 $2");

function flat(v, prefix = "") {
  return Object.entries(v).flatMap(([k, x]) => (x !== null && typeof x === "object" ? flat(x, prefix + k + ".") : [[prefix + k, x]]));
}

const alarming = (k, v) => typeof v === "number" && v > 0 && /(Dropped|Lost|Errors|LostAtStop|lost|dropped|failed)$/.test(k);
const word = (v, k) => (v === null || v === "" || v === "0001-01-01T00:00:00Z" ? none : /^(CPU|Waited)$/.test(k) ? span(v / 1000) : /PPM$/.test(k) ? `${(v / 1e4).toFixed(3)} %` : typeof v === "number" ? count(v) : typeof v === "string" && /^\d{4}-\d\d-\d\dT/.test(v) ? when(v) : String(v));
