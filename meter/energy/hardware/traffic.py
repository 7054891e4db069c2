"""Traffic for the measurements that need a real GPU (README.md says how to run it).

Usage: traffic.py DIR PORT repeat N | coalitions SET ROUNDS | beside | table N | second N OTHERPORT
Several, with + between them, are run one after the other.
PORT is wattline's, or the server's own. Writes DIR/client.jsonl: one line a request as its client saw it,
and {"mark": ...} lines that name the phases. Each request carries its tag in X-Wattline-Labels, so that
the requests.jsonl of `wattline serve --record DIR` names it too. Only the standard library is needed.
"""
import http.client
import itertools
import json
import os
import random
import sys
import threading
import time

# Sets of four requests: delay in s, prompt words, tokens to generate. Fit nothing to one of them.
SETS = {
    'first': {'W': (0.0, 300, 256), 'X': (0.4, 8000, 32), 'Y': (0.3, 1500, 384), 'Z': (0.8, 3000, 128)},
    'short': {'W': (0.0, 100, 64), 'X': (0.05, 600, 16), 'Y': (0.1, 2000, 40), 'Z': (0.2, 200, 200)},
    'pair': {'W': (0.0, 100, 300), 'X': (0.1, 300, 200)},
    'third': {'A': (0.0, 600, 180), 'B': (0.3, 5000, 60), 'C': (0.15, 200, 250), 'D': (0.6, 2500, 100)},
    'fourth': {'P': (0.0, 1800, 120), 'Q': (0.1, 1000, 160), 'R': (0.5, 9000, 24), 'S': (0.25, 100, 220)},
    'even': {'W': (0.0, 500, 300), 'X': (0.6, 1200, 200), 'Y': (0.2, 900, 250), 'Z': (1.0, 2500, 300)},
}

# What the tokens of a set are multiplied by, for a server that is so fast that its requests would not meet.
SCALE = float(os.environ.get('TRAFFIC_SCALE', '1'))


class Slots:
    """Which slot a request got: the one that is busy once its headers have come, and was not before."""

    def __init__(self, port):
        self.port, self.lock, self.taken = port, threading.Lock(), {}

    def busy(self):
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=10)
        c.request('GET', '/slots')
        slots = json.loads(c.getresponse().read())
        c.close()
        return {s['id'] for s in slots if s.get('is_processing')}

    def take(self, key):
        with self.lock:
            try:
                new = self.busy() - set(self.taken.values())
            except (OSError, ValueError, KeyError, TypeError):
                return None
            if len(new) != 1:
                return None  # two began at once: unknown is better than wrong
            self.taken[key] = new.pop()
            return self.taken[key]

    def free(self, key):
        with self.lock:
            self.taken.pop(key, None)


class Traffic:
    def __init__(self, out, port):
        self.out, self.port, self.lock, self.slots = open(out, 'a'), port, threading.Lock(), Slots(port)

    def write(self, line):
        with self.lock:
            self.out.write(json.dumps(line) + '\n')
            self.out.flush()

    def mark(self, name):
        self.write({'mark': name, 't': time.time_ns()})

    def request(self, tag, words, tokens, seed, who=None, delay=0.0, port=None, log=True):
        time.sleep(delay)
        body = json.dumps({
            'messages': [{'role': 'user', 'content': prompt(words, seed)}], 'stream': True, 'max_tokens': tokens,
            'temperature': 0.8, 'seed': 7, 'cache_prompt': False, 'ignore_eos': True})
        c = http.client.HTTPConnection('127.0.0.1', port or self.port, timeout=300)
        key = object()
        sent = time.time_ns()
        labels = ','.join(f'{k}={v}' for k, v in (('tag', tag), ('who', who)) if v)
        c.request('POST', '/v1/chat/completions', body, {'Content-Type': 'application/json', 'X-Wattline-Labels': labels})
        reply = c.getresponse()
        header = time.time_ns()
        slot = self.slots.take(key) if log else None
        events, timings = [], None
        for line in reply:
            if line.startswith(b'data: {'):
                events.append(time.time_ns())
                if b'"timings"' in line:
                    timings = json.loads(line[6:])['timings']
        end = time.time_ns()
        self.slots.free(key)
        c.close()
        if log:
            at = lambda i: events[i] if len(events) > abs(i) - (i < 0) else None
            self.write({
                'tag': tag, 'who': who, 'slot': slot, 'n_in': words, 'n_out': tokens, 't_send': sent, 't_header': header,
                't_event0': at(0), 't_event1': at(1), 't_last': at(-1), 't_end': end, 'events': len(events),
                'timings': timings, 'event_dt_us': [(b - a) // 1000 for a, b in zip(events, events[1:])]})

    def together(self, tag, members):
        threads = [threading.Thread(target=self.request, args=(tag, words, tokens, ord(who[0])), kwargs={'who': who, 'delay': delay})
                   for who, (delay, words, tokens) in members.items()]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    def warm(self):
        """The driver compiles kernels at the first use of every batch width."""
        for n in (1, 2, 3, 4):
            ts = [threading.Thread(target=self.request, args=('warm', 600, 24, n), kwargs={'log': False}) for _ in range(n)]
            for t in ts:
                t.start()
            for t in ts:
                t.join()
        time.sleep(3)


def prompt(words, seed):
    r = random.Random(seed)
    syllables = [c + v for c in 'bcdfghjklmnprstvwz' for v in 'aeiou']
    return ''.join(' ' + r.choice(syllables) + r.choice(syllables) for _ in range(words))


def repeat(t, n):
    """(a) the same request alone, n times."""
    for _ in range(n):
        t.mark('repeat')
        t.request('repeat', 1000, 256, 1)
        time.sleep(1.2)


def coalitions(t, name, rounds):
    """(b) every coalition of four requests; the order differs in every round."""
    spec = {k: (delay, words, round(tokens * SCALE)) for k, (delay, words, tokens) in SETS[name].items()}
    names = [''.join(c) for n in range(1, 5) for c in itertools.combinations(sorted(spec), n)]
    for k in range(rounds):
        order = names[:]
        random.Random(k).shuffle(order)
        for members in order:
            tag = f'{members}/{k}'
            t.mark(tag + ':pre')
            time.sleep(1.3)
            t.mark(tag)
            t.together(tag, {w: spec[w] for w in members})
            t.mark(tag + ':post')
            time.sleep(1.2)
    t.mark('end')


def beside(t):
    """(c) three that decode, alone and beside a 10k-token prompt."""
    three = {'A': (0.0, 800, 400), 'B': (0.05, 900, 400), 'C': (0.1, 1000, 400)}
    for tag, members in (('neighbours', three), ('prompt', {'P': (0.0, 10000, 16)}),
                         ('beside', {**three, 'P': (1.2, 10000, 16)})):
        for _ in range(3):
            t.mark(tag)
            t.together(tag, members)
            time.sleep(2)


def table(t, n):
    """(d) prompt size by reply length, n times each."""
    for words, tokens in itertools.product((1000, 10000), (16, 256, 1024)):
        for k in range(n):
            tag = f'table_{words // 1000}k_{tokens}'
            t.mark(tag)
            t.request(tag, words, tokens, 100 + k)
            time.sleep(1.2)


def second(t, n, other):
    """(e) the same request while a server on port other computes for somebody else."""
    for _ in range(n):
        t.mark('second')
        noise = threading.Thread(target=t.request, args=('other', 1500, 500, 9), kwargs={'port': other, 'log': False})
        noise.start()
        time.sleep(0.5)
        t.request('second', 1000, 256, 1)
        noise.join()
        time.sleep(1.5)


def main():
    t = Traffic(os.path.join(sys.argv[1], 'client.jsonl'), int(sys.argv[2]))
    runs = [run.split() for run in ' '.join(sys.argv[3:]).split('+')]
    if runs[0][0] != 'second':
        t.warm()
    t.mark('idle')
    time.sleep(4)
    for what, *args in runs:
        {'repeat': lambda: repeat(t, int(args[0])), 'coalitions': lambda: coalitions(t, args[0], int(args[1])),
         'beside': lambda: beside(t), 'table': lambda: table(t, int(args[0])),
         'second': lambda: second(t, int(args[0]), int(args[1]))}[what]()
    t.mark('idle_end')
    time.sleep(2)


if __name__ == '__main__':
    main()
