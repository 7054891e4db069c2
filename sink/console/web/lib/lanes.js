// Slot lanes: one lane a slot, or, where slots are not known, as many as are needed so that no two bars overlap. A bar is
// coloured by phase; the thin line below it has the identity colour.
import { colour, hatch, ink } from "./colour.js";

export const laneHeight = 30;

const before = (p) => p.phase === "queue" || p.phase === "load"; // it has no slot yet

const mostWaiting = 4; // lanes for requests that still wait; further ones share the last

// arrange gives each bar a lane; slots: {route: number}. A bar whose slot is not told stands where there was room while it
// computed; what only waits stands below. The lanes are [{name}], placed is [[bar, lane]].
export function arrange(bars, slots) {
  const routes = [...new Set([...Object.keys(slots || {}), ...bars.map((b) => b.route)])];
  const lanes = [], placed = [];
  for (const route of routes) {
    const prefix = routes.length > 1 ? route + " " : "", known = slots?.[route] || 0, mine = [];
    const lane = (i) => {
      while (mine.length <= i) mine.push({ name: prefix + (mine.length < known ? `slot ${mine.length}` : known ? "no slot" : `${mine.length + 1}`), taken: [] });
      return mine[i];
    };
    if (known) lane(known - 1);
    const put = (b, begin, i) => { lane(i).taken.push([begin, b.end]); placed.push([b, lanes.length + i]); };
    const computing = bars.filter((b) => b.route === route).map((b) => [b, b.phases.find((p) => !before(p))?.from]);
    for (const [b, begin] of computing) if (begin !== undefined && b.slot >= 0 && b.slot < 256 && b.slot !== null) put(b, begin, b.slot);
    for (const [b, begin] of computing) {
      if (begin === undefined || (b.slot !== null && b.slot >= 0)) continue;
      let i = mine.findIndex((l) => l.taken.every(([from, to]) => to <= begin + 1 || from >= b.end - 1));
      if (i < 0) i = mine.length;
      put(b, begin, i);
    }
    lanes.push(...mine);
    const waits = [];
    for (const [b, begin] of computing) {
      if (begin !== undefined) continue;
      let i = waits.findIndex((end) => end <= b.start);
      if (i < 0) i = Math.min(waits.length, mostWaiting - 1);
      waits[i] = b.end;
      placed.push([b, lanes.length + i]);
    }
    waits.forEach((_, i) => lanes.push({ name: i ? "" : prefix + "waiting" }));
  }
  return { lanes, placed };
}

export function drawLanes({ lanes, placed }, by) {
  return (ctx, x, _, box) => {
    ctx.font = "11px system-ui, sans-serif";
    const h = laneHeight;
    ctx.save();
    ctx.beginPath();
    ctx.rect(0, box.top, box.left + box.width, box.height);
    ctx.strokeStyle = ink("line");
    for (let i = 0; i < lanes.length; i++) {
      const y = Math.round(box.top + (i + 1) * h) - 0.5;
      ctx.moveTo(box.left, y);
      ctx.lineTo(box.left + box.width, y);
    }
    ctx.stroke();
    const bar = (p, b, top, thin) => {
      const left = x(p.from), width = Math.max(1, x(p.to) - left);
      if (left > box.left + box.width || left + width < box.left) return;
      ctx.fillStyle = ink(p.phase);
      ctx.globalAlpha = before(p) ? 0.6 : 1;
      ctx.beginPath();
      ctx.roundRect(left, thin ? top + 7 : top, width, thin ? 4 : h - 13, Math.min(2, width / 2));
      ctx.fill();
    };
    // The wait of a request that computed later is a thin line below the others: its slot may have been another's then.
    const waited = (p, b) => before(p) && b.phases.length > 1;
    for (const [b, lane] of placed) for (const p of b.phases) if (waited(p, b)) bar(p, b, box.top + lane * h + 4, true);
    for (const [b, lane] of placed) {
      const top = box.top + lane * h + 4;
      for (const p of b.phases) if (!waited(p, b)) bar(p, b, top, false);
      ctx.globalAlpha = 1;
      const [left, right] = [x(b.phases.find((p) => !before(p))?.from ?? b.start), x(b.end)];
      if (b.outcome && b.outcome !== "ok") { // where it broke off
        ctx.fillStyle = ink("bad");
        ctx.fillRect(right - 2, top - 1, 2, h - 11);
      }
      ctx.fillStyle = colour(b.who[by]);
      ctx.fillRect(left, top + h - 11, Math.max(1, right - left), 3);
    }
    ctx.restore();
  };
}

// barAt is the bar below the pointer.
export const barAt = ({ placed, lanes }, t, fraction) => {
  const lane = Math.floor(fraction * lanes.length);
  return placed.findLast(([b, l]) => l === lane && t >= b.start && t <= b.end)?.[0] || null;
};

// drawStack draws power by request: idle at the bottom, each request's active share, the residual on top; the line is what
// the device measured. info(id) -> {colour, estimated}. Provisional steps are paler.
export function drawStack(steps, stepMs, info) {
  return (ctx, x, y, box) => {
    const layers = new Map(); // key -> {colour, alpha, estimated, rects}
    const layer = (key, fill, settled, estimated) => {
      const name = key + (settled ? "" : "?");
      if (!layers.has(name)) layers.set(name, { fill, alpha: settled ? 0.9 : 0.45, estimated, rects: [], tops: [] });
      return layers.get(name);
    };
    const visible = steps.filter((s) => x(s.at + stepMs) >= box.left && x(s.at) <= box.left + box.width);
    for (const s of visible) {
      const left = x(s.at), right = x(s.at + stepMs);
      let base = 0;
      const put = (key, fill, mw, estimated) => {
        if (!(mw > 0)) return;
        const l = layer(key, fill, s.settled, estimated);
        l.rects.push(left, y(base + mw), right - left + 0.4, y(base) - y(base + mw));
        l.tops.push(left, right, y(base + mw));
        base += mw;
      };
      put("\u0000idle", ink("idle"), s.idle);
      for (const [id, mw] of s.parts) { const i = info(id); put(id, i.colour, mw, i.estimated); }
      put("\u0001residual", hatch(ctx, ink("residual"), true), s.residual);
    }
    for (const l of layers.values()) {
      ctx.beginPath();
      for (let i = 0; i < l.rects.length; i += 4) ctx.rect(l.rects[i], l.rects[i + 1], l.rects[i + 2], l.rects[i + 3]);
      ctx.globalAlpha = l.alpha;
      ctx.fillStyle = l.fill;
      ctx.fill();
      if (l.estimated) { ctx.fillStyle = hatch(ctx, ink("panel")); ctx.fill(); }
      ctx.globalAlpha = 0.7; // a fine line keeps neighbours of one colour apart
      ctx.strokeStyle = ink("panel");
      ctx.lineWidth = 1;
      ctx.beginPath();
      for (let i = 0; i < l.tops.length; i += 3) { ctx.moveTo(l.tops[i], l.tops[i + 2]); ctx.lineTo(l.tops[i + 1], l.tops[i + 2]); }
      ctx.stroke();
    }
    ctx.globalAlpha = 0.85;
    ctx.strokeStyle = ink("ink");
    ctx.lineWidth = 1.2;
    ctx.beginPath();
    visible.forEach((s, i) => {
      const joined = i && visible[i - 1].at + stepMs * 1.5 > s.at;
      if (joined) ctx.lineTo(x(s.at), y(s.mw)); else ctx.moveTo(x(s.at), y(s.mw));
      ctx.lineTo(x(s.at + stepMs), y(s.mw));
    });
    ctx.stroke();
    ctx.globalAlpha = 1;
  };
}

// sumSpan adds the steps of [from, to] up, in microjoules (1 mW x 1 ms): a step at an edge counts by its part inside.
export function sumSpan(steps, stepMs, from, to) {
  const out = { uj: 0, idle: 0, residual: 0, requests: new Map(), covered: 0, provisional: false };
  for (const s of steps) {
    const ms = Math.min(to, s.at + stepMs) - Math.max(from, s.at);
    if (ms <= 0) continue;
    out.uj += s.mw * ms;
    out.idle += s.idle * ms;
    out.residual += s.residual * ms;
    out.covered += ms;
    out.provisional ||= !s.settled;
    for (const [id, mw] of s.parts) out.requests.set(id, (out.requests.get(id) || 0) + mw * ms);
  }
  return out;
}
