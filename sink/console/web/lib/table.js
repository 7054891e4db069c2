// A table that shows any number of rows: pages of the API by cursor, only the rows in sight are in the document, and pages
// far from them are given back and asked for again, but the first: asked for again, it would have other rows.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { ask, query } from "./api.js";
import { change } from "./route.js";
import { Late } from "./parts.js";

const pageSize = 200, keepPages = 12, spare = 12;

// usePages asks for pages as they are needed. rows(i) is a row or undefined; need(a, b) fetches what is missing there.
function usePages(path, params) {
  const key = path + "?" + query(params);
  const store = useRef(null);
  const [, redraw] = useState(0);
  if (!store.current || store.current.key !== key) {
    store.current?.stop.abort();
    store.current = { key, pages: [{ cursor: "", rows: null }], error: null, stop: new AbortController(), done: false, size: pageSize, before: store.current };
    store.current.before && (store.current.before.before = null);
  }
  const s = store.current;
  const load = (page) => {
    if (page.rows || page.busy || s.error) return;
    page.busy = true;
    const wanted = new URLSearchParams(params);
    wanted.set("limit", pageSize);
    if (page.cursor) wanted.set("cursor", page.cursor);
    ask(path, wanted, s.stop.signal).then(({ data, next }) => {
      page.rows = data;
      page.busy = false;
      if (s.pages.at(-1) === page) {
        if (next && data.length) s.pages.push({ cursor: next, rows: null });
        else s.done = true;
      }
      s.before = s.error = null;
      redraw((n) => n + 1);
    }, (e) => {
      page.busy = false;
      if (e.name === "AbortError") return;
      s.before = null;
      s.error = e;
      redraw((n) => n + 1);
      if (e.status === 0 || e.status > 500) setTimeout(() => { if (!s.stop.signal.aborted) { s.error = null; load(page); } }, 3000); // a restart, or the store is slow
    });
  };
  useEffect(() => { load(s.pages[0]); }, [key]);
  useEffect(() => () => store.current.stop.abort(), []);
  const shown = s.pages[0].rows || !s.before ? s : s.before; // old rows stay until the new ones are there
  return {
    error: s.error, stale: shown !== s, started: !!shown.pages[0].rows,
    count: (shown.pages.length - 1) * pageSize + (shown.done ? (shown.pages.at(-1).rows?.length ?? pageSize) : 0), more: !shown.done,
    row: (i) => shown.pages[Math.floor(i / pageSize)]?.rows?.[i % pageSize],
    need(from, to) {
      if (shown !== s) return;
      const [a, b] = [Math.floor(from / pageSize), Math.floor(to / pageSize)];
      for (let p = a; p <= b && p < s.pages.length; p++) load(s.pages[p]);
      s.pages.forEach((page, p) => { if (p > 0 && page.rows && (p < a - keepPages || p > b + keepPages) && p < s.pages.length - 1) page.rows = null; });
    },
    loaded: () => shown.pages.flatMap((p) => p.rows || []),
  };
}

// Table's props: path and params of the API; columns [{key, name, cell(row), right, wide, sort, title}]; onOpen(row) or to(row)
// (an address); sort (the parameter in force); empty; onRows(fn) is given a function that returns the loaded rows.
export function Table({ path, params, columns, to, onOpen, sort, empty, label, onRows, sums, sortable = true }) {
  const pages = usePages(path, params);
  const broken = !!pages.error && !pages.started; // later the rows that are there stay
  const box = useRef(null);
  const [view, setView] = useState([0, 40]);
  const height = useRef(31);
  const drawn = useRef({}); // rows as they were drawn: the same object again is not compared again
  onRows?.(pages.loaded);
  const key = path + "?" + query(params);
  useEffect(() => { if (box.current) box.current.scrollTop = 0; }, [key]);

  const look = () => {
    const b = box.current;
    if (!b) return;
    const tall = b.scrollHeight > b.clientHeight + 4 && getComputedStyle(b).maxHeight !== "none";
    const top = tall ? b.scrollTop : Math.max(0, -b.getBoundingClientRect().top);
    const room = tall ? b.clientHeight : innerHeight;
    const from = Math.max(0, Math.floor(top / height.current) - spare), to = Math.ceil((top + room) / height.current) + spare;
    setView((old) => (old[0] === from && old[1] === to ? old : [from, to]));
  };
  useLayoutEffect(() => {
    const row = box.current?.querySelector("tbody tr[data-row]");
    if (row && row.offsetHeight) height.current = row.offsetHeight;
    look();
  });
  useEffect(() => {
    let asked = 0;
    const scrolled = () => { asked ||= requestAnimationFrame(() => { asked = 0; look(); }); };
    const b = box.current;
    b?.addEventListener("scroll", scrolled, { passive: true });
    addEventListener("scroll", scrolled, { passive: true });
    addEventListener("resize", scrolled);
    return () => { b?.removeEventListener("scroll", scrolled); removeEventListener("scroll", scrolled); removeEventListener("resize", scrolled); };
  }, [broken]);

  const total = pages.count, last = Math.min(view[1], total), first = Math.min(view[0], last);
  useEffect(() => { if (pages.started) pages.need(view[0], view[1] + pageSize); });

  const order = sort || "";
  const sortBy = (c) => change({ sort: order === "-" + c.sort ? c.sort : "-" + c.sort });
  const ariaSort = (c) => (order === c.sort ? "ascending" : order === "-" + c.sort ? "descending" : null);
  if (broken) return html`<p class="problem" role="alert">${pages.error.message}</p>`;
  if (drawn.current.columns !== columns) drawn.current = { columns, rows: new WeakMap() };
  const rows = [];
  for (let i = first; i < last; i++) {
    const row = pages.row(i), before = row && drawn.current.rows.get(row);
    if (before?.at === i) { rows.push(before.node); continue; }
    const node = html`<tr key=${row ? row.id || i : "r" + i} data-row=${i} aria-rowindex=${i + 2} class=${row?.outcome && row.outcome !== "ok" ? "bad" : ""}
      onClick=${row && onOpen ? (e) => { if (!e.target.closest("a, button")) onOpen(row); } : null}>
      ${row ? columns.map((c, n) => html`<td key=${c.key} class=${cls(c)}>${n === 0 && to ? html`<a href=${to(row)}>${c.cell(row)}</a>` : c.cell(row)}</td>`) : html`<td colspan=${columns.length} class="soft">…</td>`}</tr>`;
    if (row) drawn.current.rows.set(row, { at: i, node });
    rows.push(node);
  }
  const spacer = (n, name) => n > 0 && html`<tr key=${name} class="spacer" aria-hidden="true"><td colspan=${columns.length} style=${{ height: `${n * height.current}px` }}></td></tr>`;
  return html`<div class=${"scroll tall" + (pages.stale ? " stale" : "")} ref=${box} tabindex="0" role="region" aria-label=${label}>
    <table aria-rowcount=${pages.more ? -1 : total}><thead><tr>${columns.map((c) => html`<th key=${c.key} class=${cls(c)} title=${c.title || c.key} aria-sort=${ariaSort(c)}>
      ${c.sort && sortable ? html`<button type="button" onClick=${() => sortBy(c)}>${c.name}${{ ascending: " ↑", descending: " ↓" }[ariaSort(c)] || ""}</button>` : c.name}</th>`)}</tr></thead>
    <tbody>${spacer(first, "above")}
      ${rows}
      ${spacer(total - last, "below")}</tbody></table>
    ${pages.started && total === 0 && !pages.more ? html`<p class="soft">${empty}</p>` : null}
    ${!pages.started ? html`<${Late}><p class="soft">loading…</p><//>` : null}</div>
    ${pages.error && html`<p class="problem" role="alert">${pages.error.message}</p>`}
    <p class="soft under" aria-live="off">${pages.started ? `${pages.more ? `${total.toLocaleString("en").replaceAll(",", "\u2009")} read so far, more below` : `${total.toLocaleString("en").replaceAll(",", "\u2009")} in all`}` : ""}${sums || ""}</p>`;
}

const cls = (c) => [c.right && "r", c.wide && "wide"].filter(Boolean).join(" ");
