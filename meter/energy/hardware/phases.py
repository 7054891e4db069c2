"""The true joules of requests, from the server's log and an independent recorder. No code of the ledger takes part.

Usage: phases.py SERVER.jsonl COUNTER.csv RING.csv > truth.csv
SERVER.jsonl is serverlog.py's: when each task ran, in which slot, and its tokens. The counter scales the ring's samples. Time is
cut where a task begins its prompt, shows its first token or ends. Where nobody prefills, the joules above idle are divided by
e0 x reads + c x tokens + k x tokens x context, fitted by least squares to all such pieces at once. Where one task prefills it
is charged with what decoding does not explain, several together by a x tokens + b x tokens x position. The error is 2 % of
the joules, 5 % of what prompts that overlap could owe each other, and the recorder's edges. Only the standard library is needed.
"""
import bisect
import csv
import json
import sys

LAG, EDGE = 12e6, 5e6  # ns by which the ring trails the load; error of an edge


def solve(rows, n):
    """Least squares without negative solutions: rows are (regressors, value, weight)."""
    on = list(range(n))
    while True:
        a = [[sum(w * x[i] * x[j] for x, _, w in rows) for j in on] + [sum(w * x[i] * y for x, y, w in rows)] for i in on]
        for i in range(len(on)):
            pivot = max(range(i, len(on)), key=lambda r: abs(a[r][i]))
            a[i], a[pivot] = a[pivot], a[i]
            for r in range(len(on)):
                if r != i:
                    f = a[r][i] / a[i][i]
                    a[r] = [p - f * q for p, q in zip(a[r], a[i])]
        v = [a[i][-1] / a[i][i] for i in range(len(on))]
        if min(v) >= 0:
            out = [0.0] * n
            for i, k in enumerate(on):
                out[k] = v[i]
            return out
        del on[v.index(min(v))]


class Energy:
    """Joules drawn up to a moment."""

    def __init__(self, counter, ring):
        with open(ring) as f:
            s = [(int(r['t_us']) * 1e3 - LAG, int(r['power_mw']) / 1e3) for r in csv.DictReader(f)]
        self.at, self.sum = [s[0][0]], [0.0]
        for (a, _), (b, w) in zip(s, s[1:]):
            self.at.append(b)
            self.sum.append(self.sum[-1] + w * (b - a) / 1e9)
        with open(counter) as f:
            c = [(int(r['t_before_ns']), int(r['energy_mj']) / 1e3) for r in csv.DictReader(f)]
        c = [x for x in c if s[1][0] + 1e9 < x[0] < s[-1][0] - 1e9]
        scale = (c[-1][1] - c[0][1]) / (self(c[-1][0]) - self(c[0][0]))
        self.sum = [v * scale for v in self.sum]
        print(f'counter / ring {scale:.4f}', file=sys.stderr)

    def __call__(self, t):
        i = min(max(bisect.bisect_left(self.at, t), 1), len(self.at) - 1)
        a, b = self.at[i - 1], self.at[i]
        return self.sum[i - 1] + (self.sum[i] - self.sum[i - 1]) * min(max((t - a) / (b - a), 0), 1)


def main():
    with open(sys.argv[1]) as f:
        lines = [json.loads(line) for line in f]
    tasks = [t for t in lines if 'mark' not in t]
    marks = [t for t in lines if 'mark' in t]
    joules = Energy(sys.argv[2], sys.argv[3])
    for t in tasks:
        t['tokens'], at = [], t['t_event1'] or 0
        for k, gap in enumerate(t.get('event_dt_us') or []):
            at += gap * 1000 if k else 0
            t['tokens'].append(at)
        tm = t.get('timings') or {}
        t['fresh'], t['cached'] = tm.get('prompt_n', 0), tm.get('cache_n', 0)
        t['first'] = t['t_event1'] or t['t_end']
        t['joules'], t['edges'] = 0.0, 0.0
    ran = [t for t in tasks if t['t_header'] and t['t_end'] > t['t_header'] and t.get('slot') is not None]
    begin, end = min(t['t_header'] for t in ran), max(t['t_end'] for t in ran)
    quiet = [(marks[0]['t'] + 1e9, begin - 1e8), (end + 2e9, marks[-1]['t'] - 1e9)]
    quiet = [x for x in quiet if x[1] < joules.at[-1]]  # the recorder may have ended before
    idle = [(joules(b) - joules(a)) / (b - a) * 1e9 for a, b in quiet]
    print('idle before and after', [round(w, 1) for w in idle], 'W', file=sys.stderr)
    idle = [idle[0], idle[-1]]
    idle_at = lambda t: idle[0] + (idle[1] - idle[0]) * min(1, (t - begin) / 30e9)
    cuts = sorted({x for t in ran for x in (t['t_header'], t['first'], t['t_end'])})
    pieces, decode, live, order, k = [], [], [], sorted(ran, key=lambda t: t['t_header']), 0
    for a, b in zip(cuts, cuts[1:]):
        while k < len(order) and order[k]['t_header'] <= a:
            live.append(order[k])
            k += 1
        live = [t for t in live if t['t_end'] > a]
        if not live:
            continue
        prefill, work = [t for t in live if t['first'] > a], []
        for t in live:
            if t['first'] <= a:
                n = bisect.bisect_right(t['tokens'], b) - bisect.bisect_right(t['tokens'], a)
                work.append((t, n, (t['fresh'] + t['cached'] + bisect.bisect_right(t['tokens'], a) + n / 2) / 1e3))
        slots = {t['slot'] for t, _, _ in work}
        parts, x = [], [0.0] * 3
        for t, n, ctx in work:
            read = 1 - sum(s in slots for s in (t['slot'] - 1, t['slot'] + 1)) / 2
            parts.append((t, [read * n, n, n * ctx]))
            x = [p + q for p, q in zip(x, parts[-1][1])]
        e = joules(b) - joules(a) - idle_at(a) * (b - a) / 1e9
        pieces.append((a, b, e, prefill, parts, x))
        if not prefill and b - a > 2e8 and e > 0:
            decode.append((x, e, 1 / (e * e * 0.0025 + 4)))
    cost = solve(decode, 3)
    print('decode: %.4f J a read, %.4f a token, %.4f a token and 1k of context' % tuple(cost), file=sys.stderr)
    off = [sum(p * q for p, q in zip(x, cost)) / y - 1 for x, y, _ in decode if y > 20]
    print('pieces of decoding: rms %.1f %%' % (100 * (sum(o * o for o in off) / len(off)) ** 0.5), file=sys.stderr)
    lone = [t for t in ran if t['fresh'] > 200 and not any(
        o is not t and o['t_header'] < t['first'] and o['first'] > t['t_header'] for o in ran)]
    for t in ran:
        t['rest'] = 0.0
    value = lambda x: sum(p * q for p, q in zip(x, cost))
    for a, b, e, prefill, parts, x in pieces:
        if len(prefill) == 1:
            prefill[0]['rest'] += e - value(x)
    terms = lambda t: [t['fresh'], t['fresh'] * (t['cached'] + t['fresh'] / 2) / 1e3, max(0, 1 - t['fresh'] / 1e3)]
    prompt = solve([(terms(t), t['rest'], 1 / (t['rest'] ** 2 * 0.0025 + 25)) for t in lone if t['rest'] > 0], 3)
    print('prompt: %.4f J a token, %.5f a token and 1k of position, %.1f' % tuple(prompt), file=sys.stderr)
    pools, until = [], 0  # prompts that overlap
    for t in order:
        if t['first'] <= t['t_header']:
            continue
        if t['t_header'] >= until:
            pools.append([])
        pools[-1].append(t)
        until = max(until, t['first'])
    pool = {id(t): k for k, p in enumerate(pools) for t in p}
    drawn = [0.0] * len(pools)
    for a, b, e, prefill, parts, x in pieces:
        whole = value(x)
        for t, y in parts:
            part = value(y) / whole if whole else 1 / len(parts)
            t['joules'] += value(y) if prefill else e * part
        if prefill:
            drawn[pool[id(prefill[0])]] += e - whole
            for t in [t for t, _ in parts] + prefill:
                t['edges'] += (400 * EDGE / 1e9) ** 2 / (len(parts) + len(prefill))
    for p, e in zip(pools, drawn):
        work = [sum(u * v for u, v in zip(terms(t), prompt)) for t in p]
        for t, w in zip(p, work):
            t['joules'] += e * (w / sum(work) if sum(work) else 1 / len(p))
            t['edges'] += (0.05 * w * (1 - w / max(sum(work), 1e-9))) ** 2
    last = [(t['t_end'], t) for t in ran]
    for at, t in last:  # the tail of the last to work
        if not any(o['t_header'] < at + 1e8 and o['t_end'] > at for o in ran):
            t['joules'] += joules(at + 1e8) - joules(at) - idle_at(at) * 0.1
    print('request,run,share,kind,joules,error,idle_w')
    for i, t in enumerate(tasks):
        if max(t['t_end'], t['t_header'] or 0) > joules.at[-1]:
            continue
        kind = t['tag'][t['tag'].find(':') + 1:].split('/')[0]
        error = ((0.02 * t['joules']) ** 2 + t['edges']) ** 0.5
        print(f'{i},all,,{kind},{t["joules"]:.3f},{error:.3f},{sum(idle) / 2:.3f}')


main()
