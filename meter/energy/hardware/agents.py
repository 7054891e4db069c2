"""Agents that are interrupted: sessions of several turns, a fifth of their requests cut off in every way.

Usage: agents.py CLIENT.jsonl PORT SESSIONS SECONDS [SCALE [SEED]]
Writes a line a request as its client saw it, and marks; serverlog.py reads it. Requests are streamed or not, and cut
while queued, in prefill, while decoding, or unstreamed, by a close or a reset. SCALE multiplies prompts, for a slow
server. Only the standard library is needed.
"""
import json
import random
import socket
import struct
import sys
import threading
import time

OUT, PORT, SESSIONS, SECONDS = open(sys.argv[1], 'w'), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
SCALE = float(sys.argv[5]) if len(sys.argv) > 5 else 1.0
SEED = int(sys.argv[6]) if len(sys.argv) > 6 else 0
LOCK = threading.Lock()
SYLLABLES = [c + v for c in 'bcdfghjklmnprstvwz' for v in 'aeiou']


def write(line):
    with LOCK:
        OUT.write(json.dumps(line) + '\n')
        OUT.flush()


def mark(name):
    write({'mark': name, 't': time.time_ns()})


def words(n, r):
    return ''.join(' ' + r.choice(SYLLABLES) + r.choice(SYLLABLES) for _ in range(n))


class Cut(Exception):
    pass


def request(tag, who, messages, most, stream, cut=None, reset=False, path='/v1/chat/completions', head=False):
    """cut: seconds after sending, or -n: after n events; head: the seconds count from the reply's head, which comes when the
    prompt begins. Returns the text generated, None if it was cut."""
    body = {'messages': messages, 'stream': stream, 'max_tokens': most, 'temperature': 0.8, 'seed': 7, 'ignore_eos': True}
    body = json.dumps(body).encode()
    start = (f'POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n'
             f'X-Wattline-Labels: tag={tag},who={who}\r\nX-Wattline-Echo: 1\r\nConnection: close\r\n\r\n').encode()
    q = {'tag': tag, 'who': who, 'stream': stream, 'max': most, 'path': path, 'bytes': len(body), 't_header': None, 't_event0': None,
         't_event1': None, 't_last': None, 'status': None, 'err': None, 'events': 0, 'timings': None, 'event_dt_us': []}
    s = socket.create_connection(('127.0.0.1', PORT))
    s.sendall(start + body)
    q['t_send'] = time.time_ns()
    stamps, text, data = [], '', b''
    deadline = time.time() + cut if cut and cut > 0 and not head else None
    try:
        ended = False
        while not ended:
            s.settimeout(None if deadline is None else max(0.001, deadline - time.time()))
            try:
                more = s.recv(65536)
            except (socket.timeout, TimeoutError):
                raise Cut('time') from None
            now = time.time_ns()
            if q['t_header'] is None:
                q['t_header'] = now
                if head:
                    deadline = time.time() + cut
            ended = not more
            data += more
            if not stream:
                continue
            while b'\n' in data:
                line, data = data.split(b'\n', 1)
                if line.startswith(b'data: {'):
                    o = json.loads(line[6:])
                    stamps.append(now)
                    q['timings'] = o.get('timings') or q['timings']
                    text += ((o.get('choices') or [{}])[0].get('delta') or {}).get('content') or ''
                    if cut and cut < 0 and len(stamps) >= -cut:
                        raise Cut('events')
        if not stream:
            reply = data.split(b'\r\n\r\n', 1)[1]
            if b'transfer-encoding: chunked' in data.split(b'\r\n\r\n', 1)[0].lower():
                out = b''
                while reply:
                    n, reply = reply.split(b'\r\n', 1)
                    n = int(n, 16)
                    out, reply = out + reply[:n], reply[n + 2:]
                    if n == 0:
                        break
                reply = out
            o = json.loads(reply)
            q['timings'] = o.get('timings')
            text = o['choices'][0]['message'].get('content') or '' if 'choices' in o else ''.join(c.get('text', '') for c in o.get('content', []))
    except Cut as c:
        q['err'], text = f'cut:{c}' + (':reset' if reset else ''), None
        if reset:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    except (OSError, ValueError, KeyError, IndexError) as e:
        q['err'], text = f'error:{e!r}', None
    s.close()
    q['t_end'] = time.time_ns()
    q['events'] = len(stamps)
    if len(stamps) > 1:
        q['t_event0'], q['t_event1'], q['t_last'] = stamps[0], stamps[1], stamps[-1]
        q['event_dt_us'] = [(b - a) // 1000 for a, b in zip(stamps, stamps[1:])]
    write(q)
    return text


def session(k, until):
    r = random.Random(SEED + k)
    time.sleep(r.uniform(0, 6))
    shared = words(int(300 * SCALE), random.Random(1))
    messages = [{'role': 'user', 'content': shared + words(int(r.uniform(100, 1200) * SCALE), r)}]
    turn = 0
    while time.time() < until:
        who, most, stream = f's{k}t{turn}', r.randint(40, 220), r.random() < 0.75
        path = '/v1/chat/completions'
        tag, cut, reset, head = 'agent:plain', None, r.random() < 0.5, False
        if r.random() < 0.2:
            kind = r.choice(['cut_prefill', 'cut_decode', 'cut_unstreamed', 'cut_queued'])
            tag = 'agent:' + kind
            if kind == 'cut_prefill':
                stream, cut, head = True, r.uniform(0.05, 0.6), True
                messages.append({'role': 'user', 'content': words(int(6000 * SCALE), r)})
            elif kind == 'cut_decode':
                stream, cut = True, -r.randint(5, 60)
            elif kind == 'cut_queued':
                stream, cut = True, r.uniform(0.02, 0.8)
            else:
                stream, cut, most = False, r.uniform(0.3, 3), r.choice([200, 250])
        elif not stream and r.random() < 0.4:
            path, tag = '/v1/messages', 'agent:messages'
        text = request(tag, who, messages, most, stream, cut, reset, path, head)
        if tag == 'agent:cut_prefill':
            messages.pop()
        if text:
            messages.append({'role': 'assistant', 'content': text})
            messages.append({'role': 'user', 'content': words(int(r.uniform(50, 900) * SCALE), r)})
        if sum(len(m['content']) for m in messages) > 90_000 * SCALE:
            messages = messages[:1]
        turn += 1
        time.sleep(r.uniform(0.05, 1.0))


def main():
    mark('agent:pre')
    time.sleep(6)
    for k in range(3):  # alone: what work costs
        request('agent:alone', f'a{k}', [{'role': 'user', 'content': words(int(700 * SCALE), random.Random(50 + k))}], 160, True)
        time.sleep(1.5)
    mark('agent')
    until = time.time() + SECONDS
    threads = [threading.Thread(target=session, args=(k, until)) for k in range(SESSIONS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    mark('agent:post')
    time.sleep(8)
    mark('agent:end')


main()
