// Server-sent events by fetch: unlike EventSource it sees the comment lines by which silence and a dead connection differ,
// and the sentence of a refusal. A hidden tab holds no connection.
import { sentence } from "./api.js";

const silence = 15000; // without a byte for so long, the connection is lost
const waits = [300, 500, 1000, 2000, 3000];

// follow reads path until stop() and hands each event over; state is told "live", "lost" with a reason, or "hidden".
export function follow(path, { event, state }) {
  let stopped = false, abort = null, tries = 0, timer = 0, watchdog = 0;

  async function connect() {
    clearTimeout(timer);
    if (stopped || document.hidden || abort) return;
    const mine = (abort = new AbortController());
    let reason = "the server closed the connection";
    try {
      const alive = () => {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => { reason = "nothing came for 15 s"; mine.abort(); }, silence);
      };
      alive();
      const response = await fetch(location.origin + path, { signal: mine.signal, headers: { Accept: "text/event-stream" }, cache: "no-store" });
      if (!response.ok) throw new Error(await sentence(response));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = parser(event);
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        alive();
        if (tries >= 0) { tries = -1; state("live"); }
        parse(value);
      }
    } catch (e) {
      if (!mine.signal.aborted) reason = e instanceof TypeError ? "wattline does not answer" : e.message;
    }
    if (abort === mine) {
      clearTimeout(watchdog);
      abort = null;
    }
    if (stopped || document.hidden || abort) return; // abort: another connection has taken its place
    state("lost", reason);
    tries = Math.max(tries, 0);
    timer = setTimeout(connect, waits[Math.min(tries++, waits.length - 1)]);
  }

  function visibility() {
    if (document.hidden) {
      state("hidden");
      abort?.abort();
      abort = null;
    } else {
      tries = 0;
      connect();
    }
  }
  // A browser may keep a page that was left, with its connections, of which it has six for a host.
  const leave = () => { clearTimeout(timer); abort?.abort(); };
  const back = (e) => { if (e.persisted) connect(); };
  document.addEventListener("visibilitychange", visibility);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", back);
  connect();
  return () => {
    stopped = true;
    leave();
    document.removeEventListener("visibilitychange", visibility);
    removeEventListener("pagehide", leave);
    removeEventListener("pageshow", back);
  };
}

// parser takes text in any pieces and calls back with the type and the decoded data of each whole event.
export function parser(event) {
  let rest = "", type = "message", data = [];
  return (text) => {
    rest += text;
    let end;
    while ((end = rest.indexOf("\n")) >= 0) {
      const line = rest.slice(0, end).replace(/\r$/, "");
      rest = rest.slice(end + 1);
      if (line === "") {
        if (data.length) event(type, JSON.parse(data.join("\n")));
        type = "message";
        data = [];
      } else if (line[0] !== ":") {
        const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (name === "event") type = value;
        else if (name === "data") data.push(value);
      }
    }
  };
}
