// Sessions by tokens, energy and money; one session as a timeline of its turns.
import { html, useRef } from "../lib/html.js";
import { go, href } from "../lib/route.js";
import { useAsk } from "../lib/api.js";
import { Energy, PlusMinus, at, costOf, count, energyOf, exactly, joules, money, none, permille, span, when, zone } from "../lib/format.js";
import { Bars } from "../lib/gantt.js";
import { ink } from "../lib/colour.js";
import { Legend, Loaded, Model, Outcome, Section, Stat, Who, short } from "../lib/parts.js";
import { Copy, flag, words } from "../lib/copy.js";
import { breaksOf, useMarks } from "../lib/configs.js";
import { Table } from "../lib/table.js";
import { Filters, chosen } from "../lib/filters.js";

export default function Sessions({ route, hello }) {
  return route.id ? html`<${Session} id=${route.id} hello=${hello} />` : html`<${List} route=${route} hello=${hello} />`;
}

const shown = ["key", "agent", "model", "requests", "failed", "prompt_tokens", "cached_tokens", "output_tokens", "energy_uj", "sigma_uj", "cost", "duration_us", "first_at", "last_at"];

function List({ route, hello }) {
  const filters = chosen(route.params);
  const loaded = useRef(() => []);
  const columns = [
    { key: "last_at", name: "last request", cell: (s) => html`<span title=${exactly(s.last_at)}>${when(s.last_at)}</span>` },
    { key: "key", name: "session", cell: (s) => (s.key ? html`<a href=${href("sessions", s.key)}>${short(s.key)}</a>` : html`<a class="pm" href=${href("requests", "", { session: null })}>none told</a>`) },
    { key: "agent", name: "agent", cell: (s) => html`<${Who} name=${s.agent} />` },
    { key: "model", name: "model", wide: true, cell: (s) => html`<${Model} name=${s.model} />` },
    { key: "requests", name: "turns", right: true, cell: (s) => html`${count(s.requests)}${s.failed ? html` <span class="bad-text" title="not ok">${count(s.failed)} failed</span>` : null}` },
    { key: "prompt_tokens", name: "in", right: true, wide: true, cell: (s) => count(s.prompt_tokens) },
    { key: "cached_tokens", name: "cached", right: true, wide: true, title: "share of the prompt tokens that were reused", cell: (s) => permille(s.cached_tokens, s.prompt_tokens) },
    { key: "output_tokens", name: "out", right: true, cell: (s) => count(s.output_tokens) },
    { key: "energy_uj", name: "energy", right: true, cell: (s) => html`<${PlusMinus} value=${s.requests_with_energy ? s.energy_uj / 1e6 : null} sigma=${s.sigma_uj / 1e6} />` },
    { key: "cost", name: "cost", right: true, wide: true, cell: (s) => money(s.cost, hello.currency) },
  ].filter((c) => c.key !== "cost" || (hello.price_per_kwh_micro ?? null) !== null);
  return html`<h1>Sessions <small>times are ${zone}</small></h1>
    <${Filters} params=${route.params} />
    <${Section} title="Newest first" note="times of their last requests" tools=${html`<${Copy} command=${`wattline usage --by session${route.params.get("all") === "1" ? " --all" : ""} ${flag("--since", route.params.get("since") || "7d")}`} name="sessions"
        table=${() => ({ columns: shown, rows: loaded.current().map((s) => shown.map((c) => s[c])) })} />`}>
      <${Table} path="/api/sessions" params=${filters} columns=${columns} sortable=${false} label="sessions" onRows=${(f) => { loaded.current = f; }}
        onOpen=${(s) => s.key && go(href("sessions", s.key))} empty="No sessions: clients tell theirs in a header, such as X-Wattline-Session." /><//>`;
}

const most = 500;

function Session({ id, hello }) {
  const answer = useAsk("/api/requests", { session: id, sort: "started_at", limit: most });
  const sum = useAsk("/api/sum", { session: id, all: 1 });
  return html`<p><a href=${href("sessions")}>← sessions</a></p>${answer.error && html`<h1>Session ${id}</h1>`}<${Loaded} of=${answer}>${(rows) => rows.length ? html`<${Turns} rows=${rows} id=${id} sum=${sum.data?.[0]} more=${!!answer.next} hello=${hello} />`
    : html`<h1>No session ${id}</h1><p class="soft">No stored request has it. Sessions are stored as hashes unless serve runs with --identify plain.</p>`}<//>`;
}

function Turns({ rows, id, sum, more, hello }) {
  const first = rows[0], last = rows.at(-1);
  const open = (r) => go(href("requests", r.id));
  const number = (r, i) => (rows.length <= 20 || i % 5 === 4 ? i + 1 : "");
  const copy = (name) => html`<${Copy} command=${`wattline session ${words(id)}`} name=${name} table=${() => turnTable(rows)} />`;
  const breaks = breaksOf(useMarks(at(first.started_at), at(last.started_at) + 1), rows.map((r) => at(r.started_at)));
  const cached = (r) => Math.min(r.cached_tokens || 0, r.prompt_tokens || 0);
  const lost = (r) => Math.max(0, Math.min(r.cache_lost_tokens || 0, (r.prompt_tokens || 0) - cached(r)));
  const fresh = (r) => (r.prompt_tokens || 0) - cached(r) - lost(r);
  return html`<h1><${Who} name=${first.agent} /> session ${short(id)} <small><${Model} name=${first.model} /> · ${when(first.started_at)} to ${when(last.started_at)} · <span title="whole name">${id}</span></small></h1>
    <div class="figures">
      <${Stat} name="Turns" note=${sum?.failed ? `${sum.failed} failed` : ""}>${count(sum?.requests ?? rows.length)}<//>
      <${Stat} name="Prompts" note=${sum ? `${permille(sum.cached_tokens, sum.prompt_tokens)} cached` : ""} title="tokens of the prompts">${count(sum?.prompt_tokens)}<//>
      <${Stat} name="Output" note="tokens">${count(sum?.output_tokens)}<//>
      <${Stat} name="Energy"><${PlusMinus} value=${sum?.requests_with_energy ? sum.energy_uj / 1e6 : null} sigma=${(sum?.sigma_uj || 0) / 1e6} /><//>
      <${Stat} name="Cost">${money(sum?.cost, hello.currency)}<//>
      <${Stat} name="Time" note="in requests">${span(sum?.duration_us)}<//>
    </div>
    ${more && html`<p class="warn">The first ${most} turns are shown; <a href=${href("requests", "", { session: id, all: 1 })}>the table of requests</a> has all.</p>`}
    <${Section} title="Context by turn" note="a bar is a turn; click opens it" tools=${copy("context")}>
      <${Bars} name="context by turn" items=${rows} unit=${(v) => (v ? count(v) : "0")} onClick=${open} text=${number} breaks=${breaks}
        parts=${(r) => [[ink("idle"), cached(r), `reused from the cache: ${count(r.cached_tokens)} tokens`], ["phase-prefill", fresh(r), `computed: ${count(fresh(r))} tokens`], [ink("bad"), lost(r), `computed again: ${count(lost(r))} tokens (${cause(r)})`], ["phase-decode", r.output_tokens || 0, `generated: ${count(r.output_tokens)} tokens`]]} />
      <${Legend} items=${[[ink("idle"), "reused from the cache"], [ink("prefill"), "computed"], [ink("bad"), "computed again: it could have been reused"], [ink("decode"), "generated"]]} /><//>
    <div class="columns"><${Section} title="Time by turn" tools=${copy("time")}><${Bars} name="time by turn" items=${rows} unit=${(v) => (v ? span(v) : "0")} onClick=${open} text=${number} breaks=${breaks}
        parts=${(r) => [["phase-queue", r.queue_us, `waiting ${span(r.queue_us)}`], ["phase-prefill", r.prefill_us, `prefill ${span(r.prefill_us)}`], ["phase-decode", r.decode_us, `decode ${span(r.decode_us)}`]]} /><//>
      <${Section} title="Energy by turn" tools=${copy("energy")}><${Bars} name="energy by turn" items=${rows} unit=${(v) => (v ? joules(v) : "0")} onClick=${open} text=${number} breaks=${breaks}
        parts=${(r) => [["phase-prefill", r.gpu_prefill_uj, `prefill ${joules(r.gpu_prefill_uj)}`], ["phase-decode", r.gpu_decode_uj, `decode ${joules(r.gpu_decode_uj)}`], [ink("idle"), r.gpu_idle_uj, `idle share ${joules(r.gpu_idle_uj)}`]]} /><//></div>
    <${Section} title="Turns" tools=${copy("session")}><div class="scroll tall" tabindex="0" role="region" aria-label="table of turns"><table><thead><tr><th class="r">turn</th><th>time</th><th class="r wide">pause before</th><th class="r">in</th><th class="r">cached</th><th class="r">out</th><th class="r wide">first token</th><th class="r">energy</th><th class="r wide">cost</th><th>outcome</th></tr></thead>
      <tbody>${rows.map((r, i) => html`<tr key=${r.id} class=${r.outcome === "ok" ? "" : "bad"} onClick=${() => open(r)}><td class="r">${i + 1}</td><td><a href=${href("requests", r.id)}>${when(r.started_at)}</a></td>
        <td class="r wide">${i ? pause(rows[i - 1], r) : none}</td><td class="r">${count(r.prompt_tokens)}</td><td class="r">${permille(r.cached_tokens, r.prompt_tokens)}</td><td class="r">${count(r.output_tokens)}</td>
        <td class="r wide">${span(r.ttft_us)}</td><td class="r"><${Energy} row=${r} /></td><td class="r wide">${money(costOf(r), hello.currency)}</td><td><${Outcome} row=${r} /></td></tr>`)}</tbody></table></div><//>`;
}

const pause = (before, r) => { const us = (at(r.started_at) - at(before.started_at)) * 1000 - (before.duration_us || 0); return us > 0 ? span(us) : "at once"; };

const cause = (r) => [r.cache_verdict, r.cache_cause, r.cache_part].filter(Boolean).join(", ").replaceAll("_", " ");

function turnTable(rows) {
  const c = ["id", "started_at", "prompt_tokens", "cached_tokens", "output_tokens", "queue_us", "prefill_us", "decode_us", "ttft_us", "gpu_prefill_uj", "gpu_decode_uj", "gpu_idle_uj", "gpu_uj", "gpu_sigma_uj", "cache_verdict", "cache_cause", "cache_part", "cache_expected_tokens", "cache_lost_tokens", "cache_lost_us", "cache_lost_uj", "outcome"];
  return { columns: [...c, "energy_uj"], rows: rows.map((r) => [...c.map((k) => r[k]), energyOf(r) ?? null]) };
}
