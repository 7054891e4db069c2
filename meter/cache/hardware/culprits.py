"""What it saves to remove the fault of a client that loses the prompt cache: sessions with and without it.

Usage: culprits.py run PORT ROUNDS [WORDS [TURNS [SEED]]]
       culprits.py score ROWS.json [POWER.csv]

run sends agents' sessions to a wattline at PORT: of each fault one with it and one without it in turn, in ROUNDS rounds
that begin with the one and with the other. A system prompt has WORDS words, each turn a sixteenth of that. The server
needs two slots or more, --jinja and a template that puts the tools before the conversation. score compares the saving
that the rows predict (cache_lost_tokens, cache_lost_us, cache_lost_uj) with the one that was measured; errors add up. ROWS.json is
`wattline query --format json "SELECT * FROM requests"`, POWER.csv another recorder's lines "unix seconds,watts", for the
device's joules without wattline's division. Only the standard library is needed.
"""
import datetime
import http.client
import json
import math
import random
import sys
import time

SYLLABLES = [c + v for c in 'bcdfghjklmnprstvwz' for v in 'aeiou']
REST = 1.5  # seconds between sessions
TAIL = 0.25  # seconds until the power has fallen behind a request


def words(n, seed):
    r = random.Random(seed)
    return ' '.join(r.choice(SYLLABLES) + r.choice(SYLLABLES) for _ in range(n))


def post(port, labels, session, body):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=300)
    head = {'Content-Type': 'application/json', 'X-Wattline-Session': session, 'X-Wattline-Labels': ','.join(f'{k}={v}' for k, v in labels.items())}
    c.request('POST', '/v1/chat/completions', json.dumps(body), head)
    r = c.getresponse()
    text, data = '', b''
    for line in r:
        data = line
        if line.startswith(b'data: {'):
            for choice in json.loads(line[6:]).get('choices', []):
                text += choice.get('delta', {}).get('content') or ''
    if r.status != 200:
        sys.exit(f'status {r.status}: {data[:300]}')
    c.close()
    return text


def counter(body, turn, faulty):
    m = body['messages'][0]
    m['content'] = f'x-billing: cch={turn * 7919 % 100000 if faulty else 0:05d};\n' + m['content']


def random_id(body, turn, faulty):
    f = body['tools'][1]['function']
    f['description'] = f'run {0x9e3779b1 * (turn + 1) % 2**32 if faulty else 0:08x}4f2a ' + f['description']


def reordered(body, turn, faulty):
    n = turn % 3 if faulty else 0
    body['tools'] = body['tools'][n:] + body['tools'][:n]


# Two sessions in one slot, or each in its own.
def one_slot(body, turn, faulty):
    body['id_slot'] = 1 if not faulty and body['messages'][0]['content'].startswith('second') else 0


FAULTS = {'counter in the system prompt': counter, 'random id in a tool': random_id, 'tools reordered': reordered, 'two sessions in a slot': one_slot}


class Agent:
    def __init__(self, port, labels, name, seed, n, first=''):
        self.port, self.labels, self.name, self.seed, self.n = port, labels, name, seed, n
        self.system = f'{first}agent {name}\n' + words(n, seed)
        self.tools = [{'type': 'function', 'function': {
            'name': f'tool{i}', 'description': f'{name} ' + words(n // 16, seed + i + 1), 'parameters': {'type': 'object', 'properties': {}}}} for i in range(3)]
        self.messages = []
        self.turn = 0

    def step(self, change, faulty):
        self.messages.append({'role': 'user', 'content': f'turn {self.turn} ' + words(self.n // 16, self.seed + 100 + self.turn)})
        body = {'messages': [{'role': 'system', 'content': self.system}] + [dict(m) for m in self.messages], 'tools': list(json.loads(json.dumps(self.tools))),
                'tool_choice': 'none', 'max_tokens': 32, 'temperature': 0, 'stream': True, 'ignore_eos': True}
        change(body, self.turn, faulty)
        text = post(self.port, self.labels | {'turn': self.turn}, self.name, body)
        self.messages.append({'role': 'assistant', 'content': text})
        self.turn += 1


def run(port, rounds, n=5000, turns=7, seed=1):
    for r in range(rounds):
        for i, (fault, change) in enumerate(FAULTS.items()):
            arms = (True, False) if r % 2 == 0 else (False, True)
            for faulty in arms:
                labels = {'fault': fault, 'with': int(faulty), 'round': r}
                name = f's{seed}-{r}-{i}-{int(faulty)}'
                agents = [Agent(port, labels, name, seed * 10000 + r * 1000 + i * 100 + 50 * faulty, n)]
                if change is one_slot:
                    agents.append(Agent(port, labels, name + 'b', seed * 10000 + r * 1000 + i * 100 + 50 * faulty + 25, n, 'second '))
                began = time.time()
                for _ in range(turns if change is not one_slot else max(2, turns // 2)):
                    for a in agents:
                        a.step(change, faulty)
                print(f'{time.strftime("%H:%M:%S")} round {r} {fault}, {"with" if faulty else "without"} it: {time.time() - began:.2f} s', flush=True)
                time.sleep(REST)


def at(row):
    return datetime.datetime.fromisoformat(row['started_at'].rstrip('Z')).replace(tzinfo=datetime.timezone.utc).timestamp()


def total(rows, f):
    v = [f(r) for r in rows]
    return None if any(x is None for x in v) or not v else sum(v)


def computed(r):
    return r['prompt_tokens'] - r['cached_tokens']


def detail(r, name):
    d = r['details']
    d = json.loads(d) if isinstance(d, str) else d or {}
    return d.get(name)


def sigma_seconds(r):
    """As cache_lost_sigma_uj, without the error of the joules."""
    lost, n = r['cache_lost_tokens'], computed(r)
    if not lost or not n:
        return 0.0
    each = r['prefill_us'] / n
    start, end = r['cached_tokens'], r['cached_tokens'] + lost
    place = each * lost * max(0, 1 - (start + end) / (start + r['prompt_tokens'])) / math.sqrt(12)
    return math.hypot((detail(r, 'cache_expected_sigma') or 0) * each, place, each * min(256, n - lost) / math.sqrt(3)) / 1e6


def recorded_joules(power, spans, idle_w):
    """Joules above idle in the spans: each reading holds until the next."""
    joules = 0.0
    for (t, w), (u, _) in zip(power, power[1:]):
        for a, b in spans:
            joules += max(0, min(b, u) - max(a, t)) * (w - idle_w)
    return joules


def score(rows, power=()):
    for r in rows:
        r['labels'] = json.loads(r['labels']) if isinstance(r['labels'], str) else r['labels'] or {}
    rows = [r for r in rows if 'fault' in r['labels'] and r['outcome'] == 'ok']
    print('| fault | | predicted | measured | difference | within 1.96 sigma | verdicts of the turns with it |')
    print('|---|---|---:|---:|---:|---|---|')
    for fault in FAULTS:
        mine = [r for r in rows if r['labels']['fault'] == fault]
        faulty, clean = ([r for r in mine if str(r['labels']['with']) == w] for w in '10')
        if not faulty or not clean:
            continue
        rounds = len({r['labels']['round'] for r in mine})
        named = {}
        for r in faulty:
            name = r['cache_verdict'] + (' ' + r['cache_cause'] if r['cache_cause'] else '')
            named[name] = named.get(name, 0) + 1
        wrong = sum(r['cache_verdict'] in ('client', 'server') for r in clean)
        said = ', '.join(f'{n} {k}' for k, n in sorted(named.items())) + f'; without it {wrong} of {len(clean)} lost'
        lost = [r for r in faulty if r['cache_lost_tokens']]
        lines = [
            ('tokens', 1, total(lost, lambda r: r['cache_lost_tokens']), total(lost, lambda r: detail(r, 'cache_expected_sigma') or 0), computed, 0),
            ('s of prefill', 1e6, total(lost, lambda r: r['cache_lost_us']), total(lost, lambda r: 1e6 * sigma_seconds(r)), lambda r: r['prefill_us'], 2),
            ('J of prefill', 1e6, total(lost, lambda r: r['cache_lost_uj']), total(lost, lambda r: r['cache_lost_sigma_uj']), lambda r: r['gpu_prefill_uj'], 1),
        ]
        for unit, scale, predicted, sigma, f, digits in lines:
            a, b = total(faulty, f), total(clean, f)
            show(fault, unit, scale, predicted, sigma, None if a is None or b is None else a - b, digits, said)
            fault, said = '', ''
        if power:
            spans = [merged([(at(r), at(r) + r['duration_us'] / 1e6 + TAIL) for r in arm]) for arm in (faulty, clean)]
            idle_w = idle(power, merged([(at(r), at(r) + r['duration_us'] / 1e6 + 2 * TAIL) for r in rows]))
            e = [recorded_joules(power, arm, idle_w) for arm in spans]
            decode = [total(arm, lambda r: r['gpu_decode_uj']) for arm in (faulty, clean)]
            both = (e[0] - e[1]) * 1e6 - ((decode[0] - decode[1]) if None not in decode else 0)
            show('', f'J of the recorder above {idle_w:.1f} W', 1e6, lines[2][2], lines[2][3], both, 1, '')
        print(f'<!-- {rounds} rounds, {len(faulty)} requests with, {len(clean)} without -->')


def idle(power, busy):
    v = sorted(w for t, w in power if busy[0][0] < t < busy[-1][1] and not any(a <= t <= b for a, b in busy))
    return v[len(v) // 2] if v else 0.0


def merged(spans):
    out = []
    for a, b in sorted(spans):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(b, out[-1][1]))
        else:
            out.append((a, b))
    return out


def show(fault, unit, scale, predicted, sigma, measured, digits, said):
    def text(v):
        return '-' if v is None else f'{v / scale:.{digits}f}'
    inside, off = '-', '-'
    if None not in (predicted, measured, sigma) and measured:
        off = f'{100 * (predicted / measured - 1):+.2f} %'
        inside = 'yes' if abs(predicted - measured) <= 1.96 * sigma else 'NO'
    print(f'| {fault} | {unit} | {text(predicted)} ± {text(sigma)} | {text(measured)} | {off} | {inside} | {said} |')


if __name__ == '__main__':
    if sys.argv[1:2] == ['run']:
        run(*(int(x) for x in sys.argv[2:]))
    elif sys.argv[1:2] == ['score']:
        score([json.loads(line) for line in open(sys.argv[2])],
              [tuple(float(x) for x in line.split(',')) for f in sys.argv[3:4] for line in open(f) if line.count(',') == 1])
    else:
        sys.exit(__doc__)
