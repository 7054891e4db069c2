#!/usr/bin/env python3
"""Draw a span of a recording: who held the card, and the power it drew. Prints an SVG.

    wattline attribute gpu/testdata/h100-mixed --json > rows.jsonl
    python3 picture.py ../../../gpu/testdata/h100-mixed rows.jsonl stagger > ../results/stagger.svg
"""
import csv
import gzip
import json
import sys

folder, rows, tag = sys.argv[1:4]
read = lambda name: gzip.open(f"{folder}/{name}.gz", "rt")
requests = [r for r in map(json.loads, read("requests.jsonl")) if "mark" not in r]
joules = {r["i"]: r for r in map(json.loads, open(rows)) if "i" in r}
shown = [(i, r) for i, r in enumerate(requests) if r["tag"] == tag]
t0 = min(r["t_send"] for _, r in shown) / 1e9 - 0.2
t1 = max(r["t_end"] for _, r in shown) / 1e9 + 0.2
power = [(int(p["t_us"]) / 1e6, int(p["power_mw"]) / 1e3) for p in csv.DictReader(read("ring.csv"))]
power = [p for p in power if t0 <= p[0] <= t1]

left, width, lane, top = 190, 520, 26, 34
base = top + lane * len(shown) + 150
x = lambda t: left + (t - t0) / (t1 - t0) * width
y = lambda w: base - w / 700 * 130
out = []
text = lambda at, down, what, more="": out.append(f'<text x="{at:.0f}" y="{down:.0f}" {more}>{what}</text>')
bar = lambda a, b, row, colour: out.append(
    f'<rect x="{x(a):.1f}" y="{top + lane * row + 4}" width="{max(x(b) - x(a), 1):.1f}" height="{lane - 10}" fill="{colour}"/>')
text(left + width + 12, 22, "energy of the request", 'font-weight="bold"')
for row, (i, r) in enumerate(sorted(shown, key=lambda s: s[1]["t_send"])):
    s = 1e-9
    prefill = r["t_event1"] * s - r["timings"]["prompt_ms"] / 1e3
    bar(r["t_send"] * s, prefill, row, "#9aa0a6")
    bar(prefill, r["t_event1"] * s, row, "#e69f00")
    bar(r["t_event1"] * s, r["t_last"] * s, row, "#2a9d6f")
    text(8, top + lane * row + 17, f'{r["timings"]["prompt_n"]} tokens in, {r["n_out"]} out')
    j = joules[i]
    text(left + width + 12, top + lane * row + 17, f'{j["gpu_uj"] / 1e6:.0f} ± {1.96 * j["gpu_sigma_uj"] / 1e6:.0f} J')
line = " ".join(f"{x(t):.1f},{y(w):.1f}" for t, w in power)
out.append(f'<polygon points="{x(power[0][0]):.1f},{base} {line} {x(power[-1][0]):.1f},{base}" fill="#5b8dd9" fill-opacity="0.35"/>')
out.append(f'<polyline points="{line}" fill="none" stroke="#3a6fc4" stroke-width="1.2"/>')
for w in (0, 200, 400, 600):
    out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(w):.1f}" y2="{y(w):.1f}" stroke="#888" stroke-opacity="0.3"/>')
    text(left - 8, y(w) + 4, f"{w} W", 'text-anchor="end"')
for t in range(int(t1 - t0) + 1):
    text(x(t0 + t), base + 18, f"{t} s", 'text-anchor="middle"')
text(8, y(350), "power of the card")
for k, (name, colour) in enumerate((("waiting", "#9aa0a6"), ("prompt", "#e69f00"), ("output", "#2a9d6f"))):
    out.append(f'<rect x="{left + k * 90}" y="12" width="12" height="12" fill="{colour}"/>')
    text(left + k * 90 + 18, 22, name)
print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {base + 28}" font-family="system-ui, sans-serif" font-size="13">')
print('<rect width="100%" height="100%" fill="#fff"/>')
print("\n".join(out))
print("</svg>")
