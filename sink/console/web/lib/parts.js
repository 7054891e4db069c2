// Small pieces that several pages share.
import { html, useEffect, useState } from "./html.js";
import { colour } from "./colour.js";

// Late shows its child only after 300 ms: what is quick needs no notice.
export function Late({ children }) {
  const [show, set] = useState(false);
  useEffect(() => { const t = setTimeout(() => set(true), 300); return () => clearTimeout(t); }, []);
  return show ? children : null;
}

// Loaded shows an answer of useAsk: its error as a sentence, old data dimmed while new data is on its way.
export function Loaded({ of, children, empty }) {
  if (of.error) return html`<p class="problem" role="alert">${of.error.message}</p>`;
  if (!of.data) return html`<${Late}><p class="soft">loading…</p><//>`;
  if (empty && Array.isArray(of.data) && !of.data.length) return html`<p class="soft">${empty}</p>`;
  return html`<div class=${of.stale ? "stale" : ""}>${children(of.data)}</div>`;
}

export const Section = ({ title, note, tools, children, id }) => html`<section id=${id} aria-label=${title}>
  <header><h2>${title}${note && html`<small>${note}</small>`}</h2>${tools}</header>${children}</section>`;

export const Chip = ({ name }) => html`<span class="chip" style=${{ background: colour(name) }}></span>`;

// Who is a name with its identity colour; a name that was not told is said so.
export const Who = ({ name, of = name, absent = "unnamed" }) => html`<span class="who"><${Chip} name=${of} />${name || html`<i class="pm">${absent}</i>`}</span>`;

const words = { ok: "ok", cancelled: "cancelled", truncated: "cut off", upstream_error: "failed", rejected: "refused" };

export const Outcome = ({ row }) => html`<span class=${"tag" + (row.outcome === "ok" ? "" : " bad")} title=${row.error || row.finish_reason || ""}>${words[row.outcome] || row.outcome}</span>`;

export const Stat = ({ name, children, note, title }) => html`<div title=${title}><span>${name}</span><p><strong>${children}</strong>${note && html` <i>${note}</i>`}</p></div>`;

// Choice is a row of buttons of which one is on.
export const Choice = ({ label, options, value, onChange }) => html`<span class="choice" role="group" aria-label=${label}>
  ${options.map(([v, text]) => html`<button type="button" aria-pressed=${v === value} onClick=${() => onChange(v)}>${text}</button>`)}</span>`;

export const Legend = ({ items }) => html`<ul class="legend">${items.map(([fill, text, kind]) => html`<li key=${text}><span class=${"chip " + (kind || "")} style=${kind ? null : { background: fill }}></span>${text}</li>`)}</ul>`;

// Model is a model's name: of a file, its last part.
export const Model = ({ name }) => (name ? html`<span title=${name}>${name.split("/").at(-1)}</span>` : "–");

// short is the beginning of a long id.
export const short = (text) => (text && text.length > 14 ? text.slice(0, 12) + "…" : text);
