// Changes of the configuration: vertical marks on every time axis.
import { at, watts } from "./format.js";

export const marksOf = (configs) => (configs || []).filter((c) => c.changed && c.changed.length).map((c) => ({ at: at(c.at), text: changeWords(c) }));

export function changeWords(c) {
  const changed = [].concat(c.changed);
  const names = { restart: "server restarted", server_build: `build ${c.server_build}`, server_flags: "flags changed", model: `model ${c.model}`, slots: `${c.slots} slots`,
    gpu_power_limit_mw: `power limit ${watts(c.gpu_power_limit_mw)}`, context_tokens: `context ${c.context_tokens}`, driver: `driver ${c.driver}`,
    wattline_version: `wattline ${c.wattline_version}`, quantisation: `quantisation ${c.quantisation}`, gpus: "other GPUs" };
  return changed.map((k) => names[k] || k).join(", ");
}
