// Changes of the configuration: vertical marks on every time axis.
import { useAsk } from "./api.js";
import { at, watts } from "./format.js";

export const marksOf = (configs) => (configs || []).filter((c) => c.changed && c.changed.length).map((c) => ({ at: at(c.at), text: changeWords(c) }));

export function changeWords(c) {
  const changed = [].concat(c.changed);
  const names = { restart: "server restarted", server_build: `build ${c.server_build}`, server_flags: "flags changed", model: `model ${c.model}`, slots: `${c.slots} slots`,
    gpu_power_limit_mw: `power limit ${watts(c.gpu_power_limit_mw)}`, context_tokens: `context ${c.context_tokens}`, driver: `driver ${c.driver}`,
    wattline_version: `wattline ${c.wattline_version}`, quantisation: `quantisation ${c.quantisation}`, gpus: "other GPUs" };
  return changed.map((k) => names[k] || k).join(", ");
}

// useMarks are the changes between two moments (ms or text), [{at, text}].
export function useMarks(from, to) {
  const iso = (t) => new Date(t).toISOString();
  const known = Math.abs(from) < 8.64e15 && Math.abs(to) < 8.64e15 && from < to;
  return marksOf(useAsk(known ? "/api/configs" : null, known ? { from: iso(from), to: iso(to) } : null).data).sort((a, b) => a.at - b.at);
}

// breaksOf places marks before the first of the moments (ms, ascending) that follows each.
export function breaksOf(marks, moments) {
  const out = new Map();
  for (const m of marks) {
    const before = moments.findIndex((t) => t >= m.at);
    if (before > 0) out.set(before, [...(out.get(before) || []), m.text]);
  }
  return [...out].map(([before, texts]) => ({ before, text: texts.join(", ") }));
}

// marksOn are marks for a Gantt whose axis counts unitMs from start.
export const marksOn = (marks, start = 0, unitMs = 1) => marks.map((m) => ({ at_us: (m.at - start) / unitMs, mark: "change", means: m.text }));
