// Live: what the server does now, who draws the power. Slot lanes and power stacked by request share one time axis.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { change } from "../lib/route.js";
import { bars, live, now, power } from "../lib/live.js";
import { TimeChart, niceMax } from "../lib/chart.js";
import { arrange, barAt, drawLanes, drawStack, laneHeight } from "../lib/lanes.js";
import { colour, ink } from "../lib/colour.js";
import { at, span, timeOfDay, watts, zone } from "../lib/format.js";
import { marksOf } from "../lib/configs.js";
import { Choice, Late, Legend, Model, Section } from "../lib/parts.js";
import { Copy } from "../lib/copy.js";
import { Figures } from "./livefigures.js";
import { LiveTable } from "./livetable.js";
import { Selection } from "./selection.js";

const windows = [["60", "1 min"], ["120", "2 min"], ["300", "5 min"]];
const identities = [["agent", "agent"], ["session", "session"], ["model", "model"]];

export default function Live({ route, hello }) {
  const p = route.params;
  const seconds = Math.max(1, Math.min(Number(p.get("w")) || 60, 600)), by = p.get("by") || "agent", device = p.get("device") || "";
  const a = Number(p.get("a")), z = Number(p.get("z"));
  const selected = z > a && z - a < 864e5 && z < 864e13 && a >= 0 ? [a, z] : null;
  const held = useRef(null); // while a span is selected, time stands still
  const [, tick] = useState(0);
  useEffect(() => {
    const t = setInterval(() => { if (!document.hidden) tick((n) => n + 1); }, 250);
    return () => clearInterval(t);
  }, []);

  const frozen = live.state === "lost" ? live.since + live.skew : null;
  const latest = frozen ?? now();
  if (!selected) held.current = null;
  else held.current ??= selected[0] > latest - seconds * 1000 ? latest : selected[1] + (selected[1] - selected[0]) * 0.1;
  const to = held.current ?? latest, from = to - seconds * 1000;

  const all = bars(from, to);
  const lanes = arrange(all, live.hello?.slots || {});
  const { steps, step } = power(from, to, device);
  const devices = (live.hello?.devices || []).filter((d) => !device || d.device === device);
  const limit = devices.reduce((n, d) => n + (d.power_limit_mw || 0), 0) || null;
  const byId = new Map(all.map((b) => [b.id, b.who]));
  const info = (id) => {
    const who = byId.get(id) || live.rows.get(id) || live.requests.get(id);
    return { colour: colour(who?.[by]), estimated: guessed.has(who?.energy_quality), who };
  };
  const names = [...new Set(steps.flatMap((s) => s.parts.map(([id]) => info(id).who?.[by] ?? "")))].sort();
  const gaps = live.gaps.filter((g) => !device || g.device === device).map((g) => ({ from: at(g.from), to: g.to ? at(g.to) : to, reason: g.reason }));
  const shared = {
    from, to, live: !selected, selection: selected, marks: marksOf(live.configs),
    onSelect: (a, z) => change({ a: Math.round(a), z: Math.round(z) }),
  };
  const url = live.hello?.routes?.[0]?.url || hello.routes?.[0]?.url || "wattline";

  // Before the first answer nothing is claimed.
  if (!live.hello) return html`<h1 class="unseen">Live</h1>${live.state === "lost" ? null : html`<${Late}><p class="soft">connecting…</p><//>`}`;

  return html`<h1 class="unseen">Live</h1><div class=${live.state === "lost" ? "stale" : ""}>
    <${Figures} hello=${hello} device=${device} limit=${limit} />
    ${selected && html`<${Selection} from=${selected[0]} to=${selected[1]} steps=${power(selected[0], selected[1], device)} by=${by} />`}
    <${Section} title="Slots" note=${html`last ${seconds >= 60 ? `${seconds / 60} min` : `${seconds} s`} · <${Phases} />`}
      tools=${html`<span><${Choice} label="colour by" options=${identities} value=${by} onChange=${(v) => change({ by: v === "agent" ? "" : v }, true)} />
        ${" "}<${Choice} label="length of the time axis" options=${windows} value=${String(seconds)} onChange=${(v) => change({ w: v === "60" ? "" : v }, true)} />
        <${Copy} command="wattline requests --follow" table=${() => laneTable(lanes)} name="slots" /></span>`}>
      ${lanes.lanes.length ? html`<div class="lanes">
        <${TimeChart} ...${shared} markText=${false} height=${lanes.lanes.length * laneHeight + 34} draw=${drawLanes(lanes, by)} label=${laneWords(lanes, all)}
          hover=${(t, _, fraction) => barTip(barAt(lanes, t, fraction), by)} />
        <ol aria-hidden="true">${lanes.lanes.map((l, i) => html`<li key=${i}>${l.name}</li>`)}</ol></div>`
        : html`<p class="soft">No requests yet: point a client at ${url}</p>`}
    <//>
    <${Section} title="Power by request" note=${powerNote(steps, step, selected)}
      tools=${html`<span>${(live.hello?.devices || []).length > 1 && html`<select aria-label="device" value=${device} onChange=${(e) => change({ device: e.target.value }, true)}>
          <option value="">all devices</option>${live.hello.devices.map((d) => html`<option key=${d.device} value=${d.device}>${d.name} · ${d.device}</option>`)}</select>`}
        <${Copy} command="wattline gpu --watch" table=${() => powerTable(steps, info, by)} name="power" /></span>`}>
      ${steps.length || gaps.length ? html`<${TimeChart} ...${shared} gaps=${gaps} height=${260} max=${niceMax(Math.max(limit ? limit / 3 : 0, ...steps.map(top), 1000))} size=${1000}
          unit=${watts} draw=${drawStack(steps, step, info)} label=${powerWords(steps, names)} hover=${(t) => powerTip(steps, step, t, info, by)} />
        <${Legend} items=${[[ink("idle"), "idle"], ...names.slice(0, 12).map((n) => [colour(n), n || "unnamed"]), ...(steps.some((s) => s.residual > 0) ? [["", "residual: no request's", "residual"]] : [])]} />`
        : html`<p class="soft">${devices.length ? "No power readings yet." : "No power source: wattline gpu says why, and what would give one."}</p>`}
    <//>
    <${LiveTable} hello=${hello} by=${by} />
    <p class="soft">Times are ${zone}.</p>
  </div>`;
}

// guessed: its joules are an estimate, or are not known, and it is drawn with what the others leave.
const guessed = new Set(["estimated", "contended", "below_resolution", "partial", "unavailable"]);

const top = (s) => Math.max(s.mw, s.mw - Math.min(0, s.residual));

const Phases = () => html`<span class="chip queue"></span>waiting <span class="chip prefill"></span>prefill <span class="chip decode"></span>decode`;

function powerNote(steps, step, selected) {
  if (selected) return "time stands still while a span is selected; Escape goes on";
  const first = steps.find((s) => !s.settled);
  if (!first) return "measured device power, divided · drag to select a span";
  return `measured device power, divided; the last ${span((steps.at(-1).at + step - first.at) * 1000)} are provisional and paler · drag to select a span`;
}

function barTip(bar, by) {
  if (!bar) return null;
  const w = bar.who;
  return html`<b>${w[by] || w.agent || "unnamed"}</b> <${Model} name=${w.model} /><table><tbody>
    ${bar.phases.map((p) => html`<tr key=${p.phase}><td>${p.phase === "queue" ? "waiting" : p.phase}</td><td class="r">${span((p.to - p.from) * 1000)}</td></tr>`)}</tbody></table>
    ${bar.open ? "still running" : bar.outcome && bar.outcome !== "ok" ? bar.outcome : null}`;
}

function powerTip(steps, step, t, info, by) {
  const s = steps.find((one) => t >= one.at && t < one.at + step);
  if (!s) return null;
  const groups = new Map();
  for (const [id, mw] of s.parts) {
    const name = info(id).who?.[by] || "unnamed";
    groups.set(name, (groups.get(name) || 0) + mw);
  }
  return html`<b>${watts(s.mw)}</b> at ${timeOfDay(t)}${s.settled ? "" : ", provisional"}<table><tbody>
    ${[...groups].map(([n, mw]) => html`<tr key=${n}><td>${n}</td><td class="r">${watts(mw)}</td></tr>`)}
    <tr><td class="pm">idle</td><td class="r">${watts(s.idle)}</td></tr>${s.residual ? html`<tr><td class="pm">residual</td><td class="r">${watts(s.residual)}</td></tr>` : null}</tbody></table>`;
}

function powerTable(steps, info, by) {
  const name = (id) => info(id).who?.[by] ?? "";
  const names = [...new Set(steps.flatMap((s) => s.parts.map(([id]) => name(id))))].sort();
  return { columns: ["at", "mw", "idle_mw", "residual_mw", "settled", ...names.map((n) => `${by}:${n}`)],
    rows: steps.map((s) => [new Date(s.at).toISOString(), s.mw, s.idle, s.residual, s.settled ? 1 : 0,
      ...names.map((n) => s.parts.reduce((sum, [id, mw]) => sum + (name(id) === n ? mw : 0), 0))]) };
}

const laneTable = ({ lanes, placed }) => ({ columns: ["lane", "id", "agent", "model", "phase", "from", "to"],
  rows: placed.flatMap(([b, l]) => b.phases.map((p) => [lanes[l].name, b.id, b.who.agent, b.who.model, p.phase, new Date(p.from).toISOString(), new Date(p.to).toISOString()])) });

const laneWords = ({ lanes }, all) => `Slot lanes: ${lanes.length} lanes, ${all.length} requests, ${all.filter((b) => b.open).length} of them running`;
const powerWords = (steps, names) => (steps.length ? `Power now ${watts(steps.at(-1).mw)}, idle ${watts(steps.at(-1).idle)}, divided among ${names.length}: ${names.slice(0, 8).join(", ")}` : "Power: no readings");
