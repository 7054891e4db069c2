// Asking the API: one sentence where it cannot answer. The page uses nothing else (API.md).
import { useEffect, useState } from "./html.js";

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// sentence takes the error out of an answer that is none.
export async function sentence(response) {
  const text = await response.text().catch(() => "");
  try {
    const e = JSON.parse(text).error;
    return typeof e === "string" ? e : e.message;
  } catch {
    return text.trim().slice(0, 300) || `the server answers ${response.status}`;
  }
}

// A page that was opened as http://name:password@host may ask by whole addresses only.
export async function ask(path, params, signal) {
  const query = params ? new URLSearchParams(params).toString() : "";
  let response;
  try {
    response = await fetch(location.origin + path + (query ? "?" + query : ""), { signal, headers: { Accept: "application/json" } });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new Refused(0, "wattline does not answer; the page tries again when you do something or reload");
  }
  if (!response.ok) throw new Refused(response.status, await sentence(response));
  return { data: await response.json(), next: response.headers.get("X-Wattline-Next") };
}

export const query = (params) => new URLSearchParams(params || {}).toString();

// useAsk is the answer to a question, asked again when it changes, and each everyMs while the tab is visible. What came before
// stays in sight until the new answer is there.
export function useAsk(path, params, everyMs) {
  const [state, set] = useState({ data: null, error: null, key: null });
  const key = path === null ? null : path + "?" + query(params);
  useEffect(() => {
    if (key === null) return undefined;
    const stop = new AbortController();
    let timer, answered = false;
    const load = async () => {
      clearTimeout(timer);
      if (!document.hidden) {
        try {
          const { data, next } = await ask(path, params, stop.signal);
          answered = true;
          set({ data, next, error: null, key });
        } catch (e) {
          if (e.name === "AbortError") return;
          answered = true;
          set((old) => ({ ...old, error: e, key }));
        }
      }
      if (everyMs && !stop.signal.aborted) timer = setTimeout(load, everyMs);
    };
    const visible = () => { if (!document.hidden && (everyMs || !answered)) load(); }; // a tab opened in the background asks once it is seen
    load();
    document.addEventListener("visibilitychange", visible);
    return () => { stop.abort(); clearTimeout(timer); document.removeEventListener("visibilitychange", visible); };
  }, [key, everyMs]);
  return { ...state, stale: state.key !== key };
}
