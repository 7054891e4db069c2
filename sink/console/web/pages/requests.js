// Requests: a table of any size with filters in the address; one request opens as a page of its own.
import { html, useRef } from "../lib/html.js";
import { go, href } from "../lib/route.js";
import { useAsk } from "../lib/api.js";
import { Energy, PlusMinus, costOf, count, digits, exactly, money, none, span, when, zone } from "../lib/format.js";
import { Model, Outcome, Section, Who, short } from "../lib/parts.js";
import { Copy } from "../lib/copy.js";
import { Table } from "../lib/table.js";
import { Filters, chosen, command } from "../lib/filters.js";
import Request from "./request.js";

const fetched = "id,started_at,agent,session,model,route,outcome,error,finish_reason,duration_us,ttft_us,decode_us,prompt_tokens,cached_tokens,output_tokens,output_events,gpu_uj,gpu_sigma_uj,gpu_estimate_uj,cpu_uj,energy_source,energy_quality,price_per_kwh_micro";

const rate = (r) => (r.decode_us && r.output_tokens > 1 ? ((r.output_tokens - 1) * 1e6) / r.decode_us : null);

export function columnsFor(hello) {
  const columns = [
    { key: "started_at", name: "time", sort: "started_at", cell: (r) => html`<span title=${exactly(r.started_at)}>${when(r.started_at)}</span>` },
    { key: "agent", name: "agent", sort: "agent", cell: (r) => html`<${Who} name=${r.agent} />` },
    { key: "session", name: "session", sort: "session", wide: true, cell: (r) => (r.session ? html`<a href=${href("sessions", r.session)}>${short(r.session)}</a>` : none) },
    { key: "model", name: "model", sort: "model", wide: true, cell: (r) => html`<${Model} name=${r.model} />` },
    { key: "prompt_tokens", name: "in", sort: "prompt_tokens", right: true, wide: true, cell: (r) => count(r.prompt_tokens) },
    { key: "cached_tokens", name: "cached", sort: "cached_tokens", right: true, wide: true, cell: (r) => count(r.cached_tokens) },
    { key: "output_tokens", name: "out", sort: "output_tokens", right: true, cell: (r) => count(r.output_tokens) },
    { key: "ttft_us", name: "first token", sort: "ttft_us", right: true, cell: (r) => span(r.ttft_us) },
    { key: "duration_us", name: "duration", sort: "duration_us", right: true, wide: true, cell: (r) => span(r.duration_us) },
    { key: "decode_tps", name: "tokens/s", right: true, wide: true, sort: "decode_tps", title: "decode_tps: (output tokens - 1) / decode time", cell: (r) => digits(rate(r)) },
    { key: "gpu_uj", name: "energy", sort: "gpu_uj", right: true, cell: (r) => html`<${Energy} row=${r} />` },
  ];
  if (hello.price_per_kwh_micro !== null && hello.price_per_kwh_micro !== undefined) {
    columns.push({ key: "cost", name: "cost", right: true, wide: true, cell: (r) => money(costOf(r), hello.currency) });
  }
  columns.push({ key: "outcome", name: "outcome", sort: "outcome", cell: (r) => html`<${Outcome} row=${r} />` });
  return columns;
}

export default function Requests({ route, hello }) {
  if (route.id) return html`<${Request} id=${route.id} hello=${hello} />`;
  return html`<${List} route=${route} hello=${hello} />`;
}

function List({ route, hello }) {
  const filters = chosen(route.params);
  const sort = route.params.get("sort") || "-started_at";
  const params = new URLSearchParams(filters);
  params.set("columns", fetched);
  params.set("sort", sort);
  if (!params.has("all")) params.set("all", "0");
  const loaded = useRef(() => []);
  const columns = columnsFor(hello).filter((c) => !c.sort || !hello.sorts?.length || hello.sorts.includes(c.sort) || Object.assign(c, { sort: null }));
  const known = fetched.split(",");
  return html`<h1>Requests <small>times are ${zone}</small></h1>
    <${Filters} params=${route.params} />
    <${Section} title="Chosen rows" note=${html`<${Sum} filters=${filters} hello=${hello} />`}
      tools=${html`<${Copy} command=${command(route.params, hello.engine)} name="requests" table=${() => ({ columns: known, rows: loaded.current().map((r) => known.map((c) => r[c])) })} />`}>
      <${Table} path="/api/requests" params=${params} columns=${columns} sort=${sort} label="requests" onRows=${(f) => { loaded.current = f; }}
        to=${(r) => href("requests", r.id)} onOpen=${(r) => go(href("requests", r.id))}
        empty=${[...filters].length ? "No request matches these filters." : `No requests yet: point a client at ${hello.routes?.[0]?.url || "wattline"}`} />
    <//>`;
}

// Sum is what the chosen rows come to.
export function Sum({ filters, hello }) {
  const sum = useAsk("/api/sum", filters);
  const s = sum.data?.[0];
  if (sum.error || !s) return null; // the table below says what is wrong
  return html`${count(s.requests)} requests · ${count(s.prompt_tokens)} in, ${count(s.output_tokens)} out · <${PlusMinus} value=${s.requests_with_energy ? s.energy_uj / 1e6 : null} sigma=${s.sigma_uj / 1e6} />
    ${s.cost !== null && s.cost !== undefined ? ` · ${money(s.cost, hello.currency)}` : ""}`;
}
