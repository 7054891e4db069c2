// "Copy as": each table and chart as a wattline command, as Markdown and as CSV.
import { html, useState } from "./html.js";

// quoted writes a word so that a shell takes it as it is.
export const quoted = (word) => (/^[\w@%+:,./][\w@%+=:,./-]*$/.test(word) ? word : `'${String(word).replaceAll("'", `'\\''`)}'`);

// words are arguments, of which none is taken for a flag. They come last in a command.
export const words = (...list) => (list.some((w) => String(w).startsWith("-")) ? "-- " : "") + list.map(quoted).join(" ");

// flag is a flag with its value, which may begin with "-".
export const flag = (name, value) => `${name}=${quoted(value)}`;

// Commands that read rows are told where they are, unless they find them by themselves. Some read the store alone.
let where = "", clickhouse = false;
export function rowsAre(hello) {
  clickhouse = hello.engine === "clickhouse";
  where = hello.default_rows ? "" : hello.engine === "clickhouse" ? " " + flag("--clickhouse", hello.rows) : " " + flag("--store", hello.rows);
}
export const complete = (command) => (clickhouse && /^wattline (requests|session)\b/.test(command) ? null : command?.replace(/^wattline (requests|query|usage|session)\b/, (begin) => begin + where));

const cell = (v) => (v === null || v === undefined ? "" : typeof v === "object" ? JSON.stringify(v) : String(v));

export function markdown(columns, rows) {
  const line = (cells) => "| " + cells.map((c) => cell(c).replaceAll("\\", "\\\\").replaceAll("|", "\\|").replace(/[\r\n]+/g, " ")).join(" | ") + " |";
  const right = columns.map((_, i) => rows.some((r) => typeof r[i] === "number"));
  return [line(columns), "|" + right.map((r) => (r ? "---:" : "---")).join("|") + "|", ...rows.map(line)].join("\n") + "\n";
}

// csv guards against programs that take a cell which begins with = + - @ as a formula.
export function csv(columns, rows) {
  const field = (v) => {
    let text = cell(v);
    if (typeof v === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((r) => r.map(field).join(",")).join("\r\n") + "\r\n";
}

// toClipboard works on plain http too, where browsers offer no navigator.clipboard.
export async function toClipboard(text) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let this page copy");
}

function save(name, text) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

// Copy's props: command (text), table() -> {columns, rows}, name (of the CSV file).
export function Copy({ command, table, name = "wattline" }) {
  const [said, say] = useState(null);
  const button = (what, label, act) => html`<button type="button" class="copy" title=${label} onClick=${async () => {
    let done = "copied";
    try { await act(); } catch (e) { done = e.message; }
    say([what, done]);
    setTimeout(() => say(null), 1500);
  }}>${said && said[0] === what ? said[1] : what}</button>`;
  return html`<span class="copies">
    ${complete(command) && button("command", "copy as: " + complete(command), () => toClipboard(complete(command)))}
    ${table && button("Markdown", "copy the table as Markdown", () => { const t = table(); return toClipboard(markdown(t.columns, t.rows)); })}
    ${table && button("CSV", "save the table as CSV", () => { const t = table(); save(name + ".csv", csv(t.columns, t.rows)); })}
  </span>`;
}
