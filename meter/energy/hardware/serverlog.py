"""Makes recordings for the ruler (../RULER.md) from what a client wrote and what llama-server logged.

Usage: serverlog.py CLIENT.jsonl ROWS.jsonl [LOG]
CLIENT.jsonl has a line a request (tag, who, stream, max, t_send, t_header, t_event1, t_last, t_end, err, timings,
rid) and marks. ROWS.jsonl are wattline's rows, for the sizes of bodies. Writes requests.jsonl: the requests as a
proxy sees them. With LOG it also writes server.jsonl: when each task really ran, and in which slot, by the
server's own log at its usual verbosity. Only the standard library is needed.

A request with timings has those of its task in the log. Others are told by when their reply began or ended; what is
left follows in order, since tasks are numbered as requests come.
Neither file has the times of single tokens. A decoder makes a step between the batches of a neighbour's prompt,
so its tokens are spread evenly over the time in which nobody prefills.
"""
import json
import re
import statistics
import sys

BATCH, SHARED, FASTEST = 4096, 301, 7500  # llama-server's -b, tokens that agents.py's sessions share, prompt tokens a second
DURING_PREFILL = 0.03  # rate of steps while somebody prefills, relative to the rate while nobody does


def read(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


class Steps:
    """Spreads tokens over a span, thinly where somebody prefills."""

    def __init__(self, prefills):
        self.spans = sorted(prefills)

    def gaps(self, first, last, n, own):
        """n gaps in us from first to last."""
        cuts = [(first, 1.0)]
        for a, b in self.spans:
            if (a, b) != own and a < last and b > first:
                cuts += [(max(a, first), DURING_PREFILL), (min(b, last), 1.0)]
        cuts.append((last, 1.0))
        pieces, end = [], first
        for (a, rate), (b, _) in zip(cuts, cuts[1:]):
            a = max(a, end)
            if b > a:
                pieces.append((a, b, rate))
                end = b
        whole = sum((b - a) * rate for a, b, rate in pieces)
        out, at, done, k = [], first, 0.0, 0
        for a, b, rate in pieces:
            part = (b - a) * rate
            while k < n and done + part >= whole * (k + 1) / n - 1e-6:
                t = a + (whole * (k + 1) / n - done) / rate
                out.append(max(0, round((t - at) / 1000)))
                at += out[-1] * 1000
                k += 1
            done += part
        return out


LAUNCH = re.compile(r'^([\d.]+) I slot launch_slot_: id +(\d+) \| task (\d+) ')
PROMPT = re.compile(r'^([\d.]+) I slot print_timing: id +(\d+) \| task (\d+) \| prompt eval time = +([\d.]+) ms / +(\d+) tokens')
EVAL = re.compile(r'^([\d.]+) I slot print_timing: id +(\d+) \| task (\d+) \| +eval time = +([\d.]+) ms / +(\d+) tokens')
RELEASE = re.compile(r'^([\d.]+) I slot +release: id +(\d+) \| task (\d+) \| stop processing: n_tokens = (\d+)')
CANCEL = re.compile(r'^([\d.]+) W srv +stop: cancel task, id_task = (\d+)')


def seconds(stamp):  # minutes.seconds.ms.us
    m, s, ms, us = stamp.split('.')
    return int(m) * 60 + int(s) + int(ms) / 1e3 + int(us) / 1e6


def tasks(path):
    out = {}
    with open(path) as f:
        for line in f:
            for pattern in (LAUNCH, PROMPT, EVAL, RELEASE):
                if m := pattern.match(line):
                    t = out.setdefault(int(m[3]), {})
                    if pattern is LAUNCH:
                        t['launch'], t['slot'] = seconds(m[1]), int(m[2])
                    elif pattern is PROMPT:
                        t['prompt_ms'], t['prompt_n'] = float(m[4]), int(m[5])
                    elif pattern is EVAL:
                        t['predicted_ms'], t['predicted_n'] = float(m[4]), int(m[5])
                    else:
                        t['release'], t['n_tokens'] = seconds(m[1]), int(m[4])
            if m := CANCEL.match(line):
                out.setdefault(int(m[2]), {})['cancelled'] = seconds(m[1])
    return [out[k] for k in sorted(out)]


def assign(requests, order, found):
    """Each request's task: by its timings, else by order."""
    out, free = {}, list(found)
    for i in order:
        if t := requests[i]['timings']:
            key = (t['prompt_n'], t['predicted_n'], round(t['prompt_ms'], 2))
            same = [x for x in free if (x.get('prompt_n'), x.get('predicted_n'), x.get('prompt_ms')) == key]
            if len(same) != 1:
                sys.exit(f'request {i}: {len(same)} tasks have its timings {key}: the log does not fit')
            out[i] = same[0]
            free = [x for x in free if x is not same[0]]
    offset = statistics.median(requests[i]['t_header'] / 1e9 - t['launch'] for i, t in out.items()
                               if requests[i]['stream'] and requests[i]['t_header'] and 'launch' in t)

    def take(i, near):
        best = min((x for x in free if near(x) is not None), key=near, default=None)
        if best is not None and near(best) < 0.05:
            out[i] = best
            free.remove(best)

    for i in order:  # a stream's head marks its launch, an unstreamed reply comes when the task ends
        q = requests[i]
        if i in out:
            continue
        if q['stream'] and q['t_header']:
            take(i, lambda x: abs(x['launch'] + offset - q['t_header'] / 1e9) if 'launch' in x else None)
        elif not q['stream'] and not q['err']:
            take(i, lambda x: abs(x['release'] + offset - q['t_end'] / 1e9) if x.get('predicted_n') == q['max'] else None)
    rest = [i for i in order if i not in out]
    if len(rest) != len(free):
        sys.exit(f'{len(rest)} requests without timings, {len(free)} tasks left: the log does not fit')
    out.update(zip(rest, free))
    return out, offset


def as_seen(q, rows, steps):
    """The request as a proxy sees it."""
    row = rows.get((q['tag'], q.get('who')), {})
    out = {k: q[k] for k in ('tag', 'who', 't_send', 't_header', 't_event0', 't_event1', 't_last', 't_end', 'events') if k in q}
    out['tag'] = out['tag'].split(':', 1)[1] if re.match(r'\w+:[A-Z]+/\d+$', out['tag']) else out['tag']
    out['n_in'], out['n_out'] = row.get('request_bytes') or 5 * q.get('max', 0), q.get('max', 0)
    out['streams'], out['cancelled'] = q['stream'], bool(q.get('err'))
    out['timings'] = q['timings'] and {k: q['timings'][k] for k in ('cache_n', 'prompt_n', 'prompt_ms', 'predicted_n', 'predicted_ms')}
    if not q['stream']:
        out['t_header'] = None
    elif q.get('event_dt_us'):  # the client kept them
        out['event_dt_us'], out['outputs'] = q['event_dt_us'], len(q['event_dt_us'])
    elif q.get('t_event1'):
        n = (q['timings'] or {}).get('predicted_n') or q['events'] - 1
        out['outputs'] = n
        out['event_dt_us'] = [0] + steps.gaps(q['t_event1'], q['t_last'], n - 1, (q['t_header'], q['t_event1']))
    return out


def as_run(q, out, task, offset, steps):
    """The request as the server ran it; None if it never did."""
    if 'launch' not in task:
        return None
    ns = lambda s: int((s + offset) * 1e9)
    launch, end = ns(task['launch']), ns(task['release'])
    run = {k: out[k] for k in ('tag', 'who', 't_send', 'n_in', 'n_out')}
    run.update(t_header=launch, t_end=max(end, launch + 1000), slot=task['slot'], streams=True, cancelled=False, timings=None,
               t_event0=None, t_event1=None, t_last=None, events=0)
    first, n = None, 0
    if 'predicted_ms' in task:
        n = task['predicted_n']
        first = end - int(task['predicted_ms'] * 1e6)
        first = max(launch, min(q.get('t_event1') or first, end - 1))
        fresh = task['prompt_n']
        run['timings'] = {'cache_n': max(0, task['n_tokens'] - fresh - n + 1), 'prompt_n': fresh, 'prompt_ms': task['prompt_ms'],
                          'predicted_n': n, 'predicted_ms': task['predicted_ms']}
    elif q.get('t_event1'):  # its client left while it decoded
        first, n = q['t_event1'], max(1, q['events'] - 1)
        fresh = min(max(1, task['n_tokens'] - n - SHARED), int((first - launch) / 1e9 * FASTEST) + 32)
        run['timings'] = {'cache_n': max(0, task['n_tokens'] - n - fresh), 'prompt_n': fresh, 'prompt_ms': (first - launch) / 1e6,
                          'predicted_n': n, 'predicted_ms': (end - first) / 1e6}
    else:  # its client had left before, or in prefill: it ended after a batch of the prompt
        most = task['n_tokens'] if q['t_header'] else BATCH
        fresh = min(most, max(1, task['n_tokens'] - SHARED), int((task['release'] - task['launch']) * FASTEST) + 32)
        run['timings'] = {'cache_n': max(0, task['n_tokens'] - fresh), 'prompt_n': fresh, 'prompt_ms': 1e3 * (task['release'] - task['launch']),
                          'predicted_n': 0, 'predicted_ms': 0}
    if first and q.get('event_dt_us'):  # the client kept its tokens' times
        run.update({k: out[k] for k in ('t_event0', 't_event1', 't_last', 'events', 'event_dt_us', 'outputs')})
        run['t_end'] = max(run['t_end'], out['t_last'])
    elif first:
        run.update(t_event0=first, t_event1=first, t_last=end, events=n + 1, outputs=n,
                   event_dt_us=[0] + steps.gaps(first, end, n - 1, (launch, first)))
    return run


def main():
    client = read(sys.argv[1])
    rows = {}
    for r in read(sys.argv[2]):
        labels = json.loads(r.get('labels') or '{}')
        rows[labels.get('tag'), labels.get('who')] = r
    requests = [q for q in client if 'mark' not in q]
    steps = Steps([(q['t_header'], q['t_event1']) for q in requests if q['stream'] and q.get('t_event1')])
    logged = tasks(sys.argv[3]) if len(sys.argv) > 3 else []
    runs = {}
    if logged:
        order = sorted(range(len(requests)), key=lambda i: requests[i]['t_send'])
        mine = logged[-len(order):]  # those before them warmed the server up
        runs, offset = assign(requests, order, mine)
        ns = lambda s: int((s + offset) * 1e9)
        steps = Steps([(ns(t['launch']), requests[i].get('t_event1') or ns(t['release']) - int(t.get('predicted_ms', 0) * 1e6))
                       for i, t in runs.items() if 'launch' in t and 'release' in t])
    with open('requests.jsonl', 'w') as seen, open('server.jsonl', 'w') if logged else open('/dev/null', 'w') as server:
        k = -1
        for q in client:
            if 'mark' in q:
                name = re.sub(r'^\w+:([A-Z]+/\d+(:\w+)?)$', r'\1', q['mark'])
                for f in (seen, server):
                    print(json.dumps({'mark': name, 't': q['t']}, separators=(',', ':')), file=f)
                continue
            k += 1
            out = as_seen(q, rows, steps)
            print(json.dumps(out, separators=(',', ':')), file=seen)
            if logged:
                run = as_run(q, out, runs[k], offset, steps)
                if run is None:  # never launched
                    run = {**out, 'cancelled': True, 'timings': None, 't_header': None}
                print(json.dumps(run, separators=(',', ':')), file=server)


if __name__ == '__main__':
    main()
