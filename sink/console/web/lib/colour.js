// Identity colours: the hash of a name chooses one of eight hues that stay apart for colour-blind eyes (colour_test.go checks
// it). They are never the colours of phases, and the same in dark and light.
export const hues = ["#6695ec", "#e66d1f", "#744eb6", "#80cdfc", "#b3698f", "#c8d73e", "#aa3523", "#efa3ab"];

// hash is FNV-1a of the name's UTF-8 bytes, folded; it begins with a number with which the names of common agents get hues of
// their own.
export function hash(name) {
  let h = 0x811ca72b;
  for (const b of new TextEncoder().encode(name)) h = Math.imul(h ^ b, 0x01000193) >>> 0;
  return (h ^ (h >>> 15)) >>> 0;
}

const unknown = "#8b95a1";
const known = new Map();

export function colour(name) {
  if (name === null || name === undefined || name === "") return unknown;
  let c = known.get(name);
  if (!c) {
    if (known.size > 10000) known.clear();
    known.set(name, (c = hues[hash(String(name)) % hues.length]));
  }
  return c;
}

// ink reads a colour of the theme in force from style.css.
let inks = null;
export function ink(name) {
  if (!inks) inks = new Map();
  if (!inks.has(name)) inks.set(name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  return inks.get(name);
}

const choices = ["system", "dark", "light"];
const system = matchMedia("(prefers-color-scheme: light)");

// A page in a sandbox (a report among a build's artefacts) has no storage.
const kept = (act) => { try { return act(localStorage); } catch { return null; } };

export function themeChoice() {
  const choice = kept((s) => s.getItem("theme"));
  return choices.includes(choice) ? choice : "system";
}

export function applyTheme(choice = themeChoice()) {
  kept((s) => s.setItem("theme", choice));
  document.documentElement.dataset.theme = choice === "system" ? (system.matches ? "light" : "dark") : choice;
  inks = null;
  hatches.clear();
  dispatchEvent(new Event("themechange"));
}
system.addEventListener("change", () => applyTheme());
export const nextTheme = () => choices[(choices.indexOf(themeChoice()) + 1) % choices.length];

// hatch is a canvas pattern of diagonal lines: estimates in their own colour, gaps in grey; the residual leans the other way
// (back), so that no identity colour is taken for it.
const hatches = new Map();
export function hatch(ctx, colour, back = false) {
  const key = colour + back;
  if (!hatches.has(key)) {
    const c = document.createElement("canvas");
    c.width = c.height = 8;
    const g = c.getContext("2d");
    g.strokeStyle = colour;
    g.lineWidth = 1.6;
    g.beginPath();
    for (const x of [-8, 0, 8]) { g.moveTo(x, back ? 0 : 8); g.lineTo(x + 8, back ? 8 : 0); }
    g.stroke();
    hatches.set(key, ctx.createPattern(c, "repeat"));
  }
  return hatches.get(key);
}
