// The whole state of a page is its address: /PAGE/ID?name=value. Back, forward, reload and a sent link all show the same.
import { useEffect, useState } from "./html.js";

export function parse({ pathname, search }) {
  const [page, ...rest] = pathname.slice(1).split("/");
  const query = search.slice(1);
  return { page: decode(page) || "live", id: decode(rest.join("/")), params: new URLSearchParams(query) };
}

function decode(text) {
  try { return decodeURIComponent(text || ""); } catch { return text; }
}

// href is the address of a page; params is an object or URLSearchParams. An empty or missing value is left out, except null,
// which stands for "the rows without one" and is written as name=.
export function href(page, id, params) {
  const query = new URLSearchParams();
  const entries = params instanceof URLSearchParams ? [...params] : Object.entries(params || {});
  for (const [name, value] of entries) {
    for (const v of Array.isArray(value) ? value : [value]) {
      if (v === null) query.append(name, "");
      else if (v !== undefined && (v !== "" || params instanceof URLSearchParams)) query.append(name, v);
    }
  }
  const text = query.toString();
  return "/" + encodeURIComponent(page) + (id ? "/" + encodeURIComponent(id) : "") + (text ? "?" + text : "");
}

// go changes the address. replace: the change is no step for the back button (typing into a filter).
export function go(address, replace) {
  if (address === location.pathname + location.search) return;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new Event("routechange"));
}

// change sets parameters of the current page; undefined removes one.
export function change(values, replace) {
  const { page, id, params } = parse(location);
  for (const [name, value] of Object.entries(values)) {
    params.delete(name);
    for (const v of Array.isArray(value) ? value : [value]) {
      if (v === null) params.append(name, "");
      else if (v !== undefined && v !== "") params.append(name, v);
    }
  }
  go(href(page, id, params), replace);
}

export function useRoute() {
  const [address, set] = useState(location.href);
  useEffect(() => {
    const changed = () => set(location.href);
    const events = ["popstate", "routechange"];
    for (const e of events) addEventListener(e, changed);
    return () => { for (const e of events) removeEventListener(e, changed); };
  }, []);
  return parse(new URL(address));
}

// links make clicks on the page's own links steps of the history instead of loads.
export function links() {
  addEventListener("click", (e) => {
    const a = e.target.closest?.("a[href]");
    if (!a || e.defaultPrevented || e.button || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey || a.target || a.hasAttribute("download")) return;
    if (a.origin !== location.origin || /^\/(api|metrics|web|debug)\b/.test(a.pathname) || a.hash) return;
    e.preventDefault();
    go(a.pathname + a.search);
    scrollTo(0, 0);
  });
}
