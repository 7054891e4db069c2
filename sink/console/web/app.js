// The shell: navigation, state of the connection, theme, keyboard. A page is a module, loaded when it is first opened.
import { html, render, useEffect, useState } from "./lib/html.js";
import { change, go, href, links, parse, useRoute } from "./lib/route.js";
import { applyTheme, nextTheme, themeChoice } from "./lib/colour.js";
import { live, watch } from "./lib/live.js";
import { ask } from "./lib/api.js";
import { ago, timeOfDay } from "./lib/format.js";
import { rowsAre } from "./lib/copy.js";
import { Late } from "./lib/parts.js";

const pages = [
  ["live", "Live", () => import("./pages/live.js")],
  ["requests", "Requests", () => import("./pages/requests.js")],
  ["sessions", "Sessions", () => import("./pages/sessions.js")],
  ["energy", "Energy", () => import("./pages/energy.js")],
  ["queries", "Queries", () => import("./pages/queries.js")],
  ["runs", "Runs", () => import("./pages/runs.js")],
  ["health", "Health", () => import("./pages/health.js")],
];

function App() {
  const route = useRoute();
  const [hello, setHello] = useState(null);
  const [problem, setProblem] = useState(null);
  const [, redraw] = useState(0);
  const [theme, setTheme] = useState(themeChoice());
  useEffect(() => {
    let timer;
    const load = () => ask("/api/hello").then(({ data }) => { rowsAre(data); setHello(data); setProblem(null); }, (e) => {
      setProblem(e.message);
      timer = setTimeout(load, 2000);
    });
    load();
    return () => clearTimeout(timer);
  }, []);
  // The one connection serves Live and the dot in the corner; rows alone have none.
  useEffect(() => (hello?.live ? watch(() => redraw((n) => n + 1)) : undefined), [hello?.live]);
  useEffect(() => keyboard(() => { const t = nextTheme(); applyTheme(t); setTheme(t); }), []);
  const page = route.page === "live" && hello && !hello.live ? "requests" : route.page;
  const title = pages.find(([p]) => p === page)?.[1] || "nothing here";
  useEffect(() => { document.title = `${title} · wattline`; }, [title]);
  const shown = pages.filter(([p]) => p !== "live" || !hello || hello.live);
  return html`
    <a class="skip" href="#main">Skip to the page</a>
    <nav aria-label="Pages"><b>wattline</b>
      ${shown.map(([p, text]) => html`<a key=${p} href=${href(p)} aria-current=${p === page ? "page" : null}>${text}</a>`)}
      <${State} hello=${hello} problem=${problem} />
      <button type="button" onClick=${() => { const t = nextTheme(); applyTheme(t); setTheme(t); }} title="colours: system, dark or light (t)">${theme}</button>
    </nav>
    <${Banner} problem=${problem} />
    <main id="main" tabindex="-1">${hello && html`<${Page} key=${page} page=${page} route=${route} hello=${hello} />`}</main>`;
}

// Page loads the module of a page; a module that cannot be loaded says so.
function Page({ page, route, hello }) {
  const [module, set] = useState(null);
  useEffect(() => {
    const found = pages.find(([p]) => p === page);
    if (!found) return set({ missing: true });
    let gone = false;
    found[2]().then((m) => gone || set(m), (e) => gone || set({ error: e.message }));
    return () => { gone = true; };
  }, [page]);
  if (!module) return html`<${Late}><p class="soft">loading…</p><//>`;
  if (module.missing) return html`<h1>There is no page ${page}</h1><p><a href="/live">Live</a> shows what happens now.</p>`;
  if (module.error) return html`<p class="problem" role="alert">This page could not be loaded: ${module.error}. Reload it once wattline answers.</p>`;
  return html`<${module.default} route=${route} hello=${hello} />`;
}

function State({ hello, problem }) {
  if (!hello) return html`<span class="state"><span class="dot waiting"></span>${problem ? "not connected" : "connecting"}</span>`;
  if (hello.live && !live.hello) return html`<span class="state"><span class="dot waiting"></span>${live.state === "lost" ? "connection lost" : "connecting"}</span>`;
  if (!hello.live) return html`<span class="state"><span class="dot waiting"></span>stored rows · ${hello.rows || hello.engine}</span>`;
  const config = live.configs.findLast((c) => c.current) || live.configs.at(-1);
  const slots = Object.values(live.hello?.slots || {}).reduce((a, b) => a + b, 0);
  const devices = live.hello?.devices || [];
  const what = [devices.length > 1 ? `${devices.length} × ${devices[0].name}` : devices[0] ? devices[0].name + (devices[0].simulated ? " (simulated)" : "") : "no power source",
    config?.server_build && `llama-server ${config.server_build}`, slots && `${slots} slots`].filter(Boolean).join(" · ");
  const lost = live.state === "lost";
  return html`<span class="state"><span class=${"dot" + (lost ? " lost" : live.state === "live" ? "" : " waiting")}></span>${lost ? "connection lost" : what}</span>`;
}

function Banner({ problem }) {
  const [, tick] = useState(0);
  const lost = live.state === "lost";
  useEffect(() => {
    if (!lost) return undefined;
    const t = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(t);
  }, [lost]);
  if (lost) return html`<p class="banner" role="status">Connection lost at ${timeOfDay(live.since)}, ${ago(live.since)} ago${live.reason ? `: ${live.reason}` : ""}. What you see is from before; the page comes back by itself.</p>`;
  return problem ? html`<p class="banner" role="status">${problem}</p>` : null;
}

// keyboard: 1 to 7 open pages, / goes to the first filter, t changes the colours, Escape clears a selected span.
function keyboard(theme) {
  const press = (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest?.("input, textarea, select")) return;
    const n = Number(e.key);
    if (n >= 1 && n <= pages.length) go(href(pages[n - 1][0]));
    else if (e.key === "/") {
      const field = document.querySelector("main input, main textarea");
      if (!field) return;
      field.focus();
      e.preventDefault();
    } else if (e.key === "t") theme();
    else if (e.key === "Escape") change({ a: undefined, z: undefined });
  };
  addEventListener("keydown", press);
  return () => removeEventListener("keydown", press);
}

applyTheme();
links();
pages.find(([p]) => p === parse(location).page)?.[2](); // while /api/hello is asked
render(html`<${App} />`, document.getElementById("app"));
