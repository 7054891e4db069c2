// Numbers for people: three significant digits, units that suit the size, thin spaces in thousands, local time. null, which
// means not obtained, is a dash and never a zero.
import { html } from "./html.js";

export const none = "–";
const thin = "\u2009";

// largest and smallest are for lists of any length, which Math.max(...values) is not.
export const largest = (values, least = -Infinity) => values.reduce((a, b) => Math.max(a, b), least);
export const smallest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);

// digits writes a number with three significant digits, or whole above 1,000.
export function digits(x) {
  if (x === null || x === undefined || !Number.isFinite(x)) return none;
  const a = Math.abs(x);
  if (a === 0) return "0";
  if (a >= 999.5) return thousands(Math.round(x));
  const places = Math.max(0, 2 - Math.floor(Math.log10(a) + 1e-9));
  const text = x.toFixed(Math.min(places, 12));
  return text.replace("-", "−");
}

export function thousands(n) {
  return String(Math.round(n)).replace("-", "−").replace(/\B(?=(\d{3})+$)/g, thin);
}

// count is a whole number: exact below 10,000, else 41.2k, 3.45M.
export function count(n) {
  if (n === null || n === undefined) return none;
  if (Math.abs(n) < 9999.5) return thousands(n);
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (Math.abs(n) >= size * 0.9995) return digits(n / size) + unit;
  return thousands(n);
}

const scales = {
  J: [[3.6e9, "MWh"], [3.6e6, "kWh"], [3.6e4, "Wh"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"], [0, "µJ"]],
  W: [[1e6, "MW"], [2e3, "kW"], [1, "W"], [1e-3, "mW"], [0, "µW"]],
  s: [[7200, "h"], [120, "min"], [1, "s"], [1e-3, "ms"], [0, "µs"]],
  B: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [0, "B"]],
  g: [[1e3, "kg"], [1, "g"], [0, "mg"]],
};
const sizes = { Wh: 3.6e3, min: 60, h: 3600, "µJ": 1e-6, "µW": 1e-6, "µs": 1e-6, mg: 1e-3, B: 1 };

// scaled returns the factor and the name of the unit in which this value reads well.
export function scaled(value, kind) {
  const a = Math.abs(value);
  const [from, unit] = scales[kind].find(([least]) => a >= least * 0.9995) || scales[kind].at(-1);
  return [sizes[unit] || from || 1, unit];
}

export function quantity(value, kind) {
  if (value === null || value === undefined) return none;
  if (value === 0) return "0 " + kind;
  const [size, unit] = scaled(value, kind);
  return digits(value / size) + " " + unit;
}

export const joules = (uj) => quantity(uj === null || uj === undefined ? null : uj / 1e6, "J");
export const watts = (mw) => quantity(mw === null || mw === undefined ? null : mw / 1e3, "W");
export const span = (us) => quantity(us === null || us === undefined ? null : us / 1e6, "s");
export const bytes = (n) => quantity(n, "B");
export const permille = (a, b) => (b ? digits((100 * a) / b) + " %" : none);

export function money(x, currency) {
  if (x === null || x === undefined) return none;
  const sign = { EUR: "€", USD: "$", GBP: "£" }[currency] || currency || "";
  const cent = { EUR: "ct", USD: "¢", GBP: "p" }[currency];
  if (cent && Math.abs(x) < 1) return digits(x * 100) + " " + cent;
  return digits(x) + (sign ? " " + sign : "");
}

// PlusMinus is value ± sigma in one unit, the error in softer ink.
export function PlusMinus({ value, sigma, kind = "J", title }) {
  if (value === null || value === undefined) return html`<span title=${title}>${none}</span>`;
  const [size, unit] = scaled(value || sigma || 0, kind);
  const places = Math.abs(value / size) >= 99.95 ? 0 : Math.abs(value / size) >= 9.995 ? 1 : 2;
  return html`<span class="num" title=${title}>${digits(value / size)} <span class="pm">${sigma ? `± ${near(sigma / size, places)} ` : ""}${unit}</span></span>`;
}

// near writes an error to the places of its value, or one significant digit where that would be 0.
function near(x, places) {
  const text = x >= 1000 ? thousands(x) : x.toFixed(places);
  return Number(text) > 0 || x >= 1000 ? text : x.toPrecision(1).replace(/e.*/, "").slice(0, 8);
}

// Energy is the joules of a row with its error, quality and words for what is not known.
export function Energy({ row }) {
  const quality = row.energy_quality;
  const uj = energyOf(row);
  if (quality === "pending") return html`<span class="pm" title="the power samples of its last seconds are still to come">settling…</span>`;
  if (quality === "below_resolution") {
    const most = row.gpu_estimate_uj === null || row.gpu_estimate_uj === undefined ? null : row.gpu_estimate_uj + 2 * (row.gpu_sigma_uj || 0);
    return html`<span class="num pm" title="below resolution: its estimate is smaller than twice its error">${most === null ? none : "< " + joules(most)}</span>`;
  }
  if (uj === null || uj === undefined) return html`<span class="pm" title=${qualities[quality] || "no energy was obtained"}>${none}</span>`;
  return html`<span class=${quality === "estimated" || quality === "contended" ? "estimate" : ""}><${PlusMinus}
    value=${uj / 1e6} sigma=${row.gpu_sigma_uj ? row.gpu_sigma_uj / 1e6 : null}
    title=${`${thousands(uj)} µJ; ${qualities[quality] || quality || ""}`} /></span>`;
}

// energyOf is the request's energy: the GPUs', or, of a server without one, the processor's.
export const energyOf = (row) => (String(row.energy_source || "").startsWith("rapl/") ? row.cpu_uj : row.gpu_uj);

// costOf is the price of a row's energy in whole units of the currency.
export function costOf(row) {
  const uj = energyOf(row);
  return uj === null || uj === undefined || row.price_per_kwh_micro === null ? null : (uj / 3.6e12) * (row.price_per_kwh_micro / 1e6);
}

export const qualities = {
  measured: "measured: it was alone on the device",
  shared: "shared: divided among the requests that ran at once",
  estimated: "estimated: phases or token counts were not fully known",
  contended: "contended: another program computed on the device meanwhile",
  below_resolution: "below resolution: too small for this power source",
  partial: "partial: the power readings have a hole in it",
  unavailable: "unavailable: there were no power readings",
  pending: "settling: the power samples of its last seconds are still to come",
};

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayClock = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const long = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const at = (iso) => new Date(iso).getTime();

// when is a local time: without the day where it is today's.
export function when(iso, now = Date.now()) {
  if (!iso) return none;
  const d = new Date(iso);
  if (Number.isNaN(d.getTime())) return String(iso);
  return (d.toDateString() === new Date(now).toDateString() ? clock : dayClock).format(d);
}
export const exactly = (iso) => (!iso ? none : Number.isNaN(at(iso)) ? String(iso) : `${long.format(new Date(iso))} ${zone} (${iso})`);

// sqlTime is a time as the store has it: it compares texts.
export function sqlTime(t) {
  const d = new Date(t);
  return Number.isNaN(d.getTime()) ? String(t) : d.toISOString().slice(0, 23).replace("T", " ");
}
export const timeOfDay = (ms) => clock.format(new Date(ms));

// ago is how long ago a moment was, in the coarsest unit that says it.
export function ago(ms, now = Date.now()) {
  const s = Math.max(0, Math.round((now - ms) / 1000));
  return s < 120 ? `${s} s` : s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}
