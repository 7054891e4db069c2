// What is happening now, as /api/live tells it: requests in flight, finished rows, power in steps. One for the whole page.
import { follow } from "./events.js";
import { at } from "./format.js";

const keep = 330000; // ms of the past
const maxRows = 2000;

export const live = {
  state: "connecting", // connecting, live, lost, hidden
  since: Date.now(), // when the state began
  reason: "",
  hello: null,
  ready: false,
  skew: 0, // server's clock minus ours, ms
  requests: new Map(), // id -> the newest request event, until its row is here
  rows: new Map(), // id -> row
  devices: new Map(), // device -> Steps
  gaps: [], // {device, from, to, reason}
  configs: [], // rows of table configs with changed
  version: 0, // grows with each change
  comers: 0, // grows when a request comes
};

// Steps are a device's power: index i is the step that begins at i * step ms.
class Steps {
  constructor(us) { this.step = us / 1000; this.at = new Map(); this.last = 0; }

  take(e) {
    const first = Math.round(at(e.from) / this.step);
    const ids = Object.keys(e.requests);
    e.mw.forEach((mw, k) => {
      const parts = [];
      for (const id of ids) if (e.requests[id][k]) parts.push([id, e.requests[id][k]]);
      this.at.set(first + k, { mw, idle: e.idle_mw[k], residual: e.residual_mw[k], parts, settled: e.settled });
    });
    this.last = Math.max(this.last, first + e.mw.length - 1);
  }

  trim(before) {
    for (const i of this.at.keys()) { // in the order of insertion: the oldest first, but for settled steps that came again
      if (i * this.step >= before) break;
      this.at.delete(i);
    }
  }
}

export const now = () => Date.now() + live.skew;

const listeners = new Set();
let scheduled = false;
function changed() {
  live.version++;
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { // never while the tab is hidden
    scheduled = false;
    for (const l of listeners) l();
  });
}

// works: the model runs for it, or it failed. Others (health, models, counted tokens) are housekeeping.
const works = (r) => (r.phase ? r.computes || r.phase === "sending" : (r.dialect && r.dialect !== "tokenize" && r.dialect !== "count") || r.gpu_uj !== null || r.outcome !== "ok");

const take = {
  hello(e) {
    Object.assign(live, { hello: e, ready: false, skew: at(e.now) - Date.now(), gaps: [], configs: [] });
    live.requests.clear();
    live.rows.clear();
    live.devices.clear();
  },
  ready() { live.ready = true; live.comers++; },
  config(e) {
    live.configs = live.configs.filter((c) => !(c.config_id === e.config_id && c.at === e.at)).concat(e);
  },
  row(e) {
    const seen = live.requests.get(e.id);
    live.requests.delete(e.id);
    if (!works(e)) return;
    if (!live.rows.has(e.id) && !seen) live.comers++;
    live.rows.set(e.id, Object.assign(e, { seen: seen || live.rows.get(e.id)?.seen }));
    while (live.rows.size > maxRows) live.rows.delete(live.rows.keys().next().value);
  },
  request(e) {
    if (live.rows.has(e.id)) return;
    if (!works(e)) return live.requests.delete(e.id);
    if (!live.requests.has(e.id)) live.comers++;
    live.requests.set(e.id, Object.assign(e, { ended: e.done ? now() : null }));
  },
  power(e) {
    let steps = live.devices.get(e.device);
    if (!steps) live.devices.set(e.device, (steps = new Steps(e.step_us)));
    steps.take(e);
    steps.trim(now() - keep);
  },
  gap(e) {
    live.gaps = live.gaps.filter((g) => !(g.device === e.device && g.from === e.from)).concat(e).slice(-200);
  },
  bye(e) { live.reason = e.reason; },
};

let stop = null;

// watch tells of changes, once a frame at most; the connection lives while somebody watches.
export function watch(listener) {
  listeners.add(listener);
  stop ||= follow("/api/live", {
    event(type, data) {
      take[type]?.(data);
      changed();
    },
    state(state, reason) {
      if (state === live.state) { if (reason) live.reason = reason; return changed(); }
      Object.assign(live, { state, since: state === "lost" && live.state === "connecting" ? live.since : Date.now(), reason: reason || "" });
      changed();
      if (document.hidden) return;
      for (const l of listeners) l();
    },
  });
  return () => {
    listeners.delete(listener);
    if (listeners.size) return;
    stop?.();
    stop = null;
    Object.assign(live, { state: "connecting", since: Date.now() });
  };
}

// phases of a finished row, as spans in ms of wall time; [] where its columns do not tell.
export function phasesOf(row) {
  const start = at(row.started_at), ms = (us) => us / 1000, out = [];
  const end = start + ms(row.duration_us || 0);
  const decodeEnd = row.ttft_us !== null && row.decode_us !== null ? start + ms(row.ttft_us + row.decode_us) : end;
  const decodeStart = row.ttft_us !== null ? start + ms(row.ttft_us) : row.decode_us === null ? end : end - ms(row.decode_us);
  const prefillStart = row.prefill_us === null ? decodeStart : Math.max(start, decodeStart - ms(row.prefill_us));
  const queueStart = row.queue_us === null ? prefillStart : Math.max(start, prefillStart - ms(row.queue_us));
  const loadStart = Math.max(start, queueStart - ms(row.load_us || 0));
  if (queueStart > loadStart) out.push({ phase: "load", from: loadStart, to: queueStart });
  if (prefillStart > queueStart) out.push({ phase: "queue", from: queueStart, to: prefillStart });
  if (decodeStart > prefillStart) out.push({ phase: "prefill", from: prefillStart, to: decodeStart });
  if (row.decode_us !== null && decodeEnd > decodeStart) out.push({ phase: "decode", from: decodeStart, to: Math.min(decodeEnd, end) || decodeEnd });
  if (!out.length && end > start) out.push({ phase: "other", from: start, to: end });
  return out;
}

// bars are the requests that overlap [from, to], finished and in flight, oldest first: {id, who, route, slot, phases, open, row}.
export function bars(from, to) {
  const out = [];
  for (const row of live.rows.values()) {
    const start = at(row.started_at), end = start + (row.duration_us || 0) / 1000;
    if (end < from || start > to) continue;
    out.push({ id: row.id, who: row, route: row.route, slot: slotOf(row), start, end, phases: phasesOf(row), open: false, outcome: row.outcome });
  }
  for (const r of live.requests.values()) {
    const end = r.ended || now();
    const phases = r.phases.filter((p) => p.phase !== "sending").map((p, i, all) => ({ phase: p.phase, from: at(p.at), to: i + 1 < all.length ? at(all[i + 1].at) : end }));
    const start = at(r.started_at);
    if (end < from || start > to) continue;
    out.push({ id: r.id, who: r, route: r.route, slot: r.slot, start, end, phases, open: !r.done, outcome: null });
  }
  return out.sort((a, b) => a.start - b.start || (a.id < b.id ? -1 : 1));
}

export function slotOf(row) {
  let details = row.details;
  if (typeof details === "string") { try { details = JSON.parse(details); } catch { details = null; } }
  return details?.slot ?? row.seen?.slot ?? null;
}

// power sums the devices step by step over [from, to]: each step has mw, idle, residual, parts and settled. A step that one
// of the devices lacks is not there.
export function power(from, to, device) {
  const devices = device ? [live.devices.get(device)].filter(Boolean) : [...live.devices.values()];
  if (!devices.length) return { step: 100, steps: [] };
  const step = devices[0].step, steps = [];
  for (let i = Math.floor(from / step); i * step < to; i++) {
    const all = devices.map((d) => d.at.get(i));
    if (all.some((s) => !s)) continue;
    const one = devices.length === 1 ? all[0] : {
      mw: sum(all, "mw"), idle: sum(all, "idle"), residual: sum(all, "residual"), parts: all.flatMap((s) => s.parts), settled: all.every((s) => s.settled),
    };
    steps.push({ at: i * step, ...one });
  }
  return { step, steps };
}

const sum = (list, key) => list.reduce((n, s) => n + (s[key] || 0), 0);
