// Laws of the pure modules: node --test tests/front/

import assert from "node:assert/strict";
import { test } from "node:test";
import { simulate } from "../../pages/ui/front/shared/decisions.js";
import { readPacket } from "../../pages/ui/front/shared/packet.js";
import { decadeRange, decades, linear, logarithmic, niceTicks } from "../../pages/ui/front/shared/scales.js";
import { escaped, SvgContext, tag } from "../../pages/ui/front/shared/svg.js";
import { csvOf } from "../../pages/ui/front/shared/table.js";
import { decadeText, decimal, duration, percent, short, tickText } from "../../pages/ui/front/shared/text.js";
import { keyed, passing } from "../../pages/ui/front/tune/parallel.js";

test("scales invert", () => {
  for (const scale of [linear(-2, 7, 40, 600), logarithmic(1e-3, 1e4, 600, 40)])
    for (const v of [0.5, 1, 6]) assert.ok(Math.abs(scale.invert(scale(v)) - v) < 1e-9);
});

test("ticks lie within their range and are evenly spaced", () => {
  const ticks = niceTicks(-0.3, 9.1, 5);
  assert.ok(ticks[0] >= -0.3 && ticks.at(-1) <= 9.1 && ticks.length >= 3);
  assert.deepEqual(decades(1e-3, 1e3, 10).map(decadeText), ["10⁻³", "0.01", "0.1", "1", "10", "100", "1000"]);
  const [low, high] = decadeRange(0.02, 0.03);
  assert.ok(low <= 0.02 && high >= 0.03 && high / low > 99);
});

test("numbers are written as people read them", () => {
  assert.deepEqual([0, 0.12345, 12345, 2.5e-7, 3e9].map(short), [
    "0",
    "0.123",
    "12300",
    "2.5·10⁻⁷",
    "3.0·10⁹",
  ]);
  assert.deepEqual([null, undefined, Number.NaN].map(short), ["–", "–", "–"]);
  assert.deepEqual([percent(0.043), percent(0.5), percent(Number.NaN)], ["4.3", "50", "–"]);
  assert.deepEqual([duration(3.14), duration(40), duration(120), duration(null)].map(String), [
    "3.1,s",
    "40,s",
    "2.0,min",
    "–,",
  ]);
});

test("values of a slider have no exponent, ticks have readable ones", () => {
  assert.deepEqual([1e-8, 0.2, -1, 10000].map(decimal), ["0.00000001", "0.2", "-1", "10000"]);
  assert.deepEqual([0.002, 0.5, 20, 1e-4, 2e-4, 5e6].map(tickText), [
    "0.002",
    "0.5",
    "20",
    "10⁻⁴",
    "2·10⁻⁴",
    "5·10⁶",
  ]);
});

test("markup is escaped", () => {
  assert.equal(escaped('<b a="1">&'), "&lt;b a=&quot;1&quot;&gt;&amp;");
  assert.equal(tag("a", { href: 'x"y', title: undefined }, "in"), '<a href="x&quot;y">in</a>');
  const c = new SvgContext("p");
  c.fillText("<script>", 1, 2);
  assert.ok(!c.parts.join("").includes("<script>"));
});

test("a closed path is filled and outlined as one", () => {
  const c = new SvgContext("p");
  c.beginPath();
  c.moveTo(0, -2);
  c.lineTo(2, 0);
  c.lineTo(0, 2.256);
  c.closePath();
  c.fill();
  c.stroke();
  assert.equal(c.parts.filter((part) => part.includes('d="M0 -2L2 0L0 2.26z"')).length, 2);
});

test("CSV quotes texts and leaves out what is not a number", () => {
  const columns = { panel: ['a "b", c'], series: [""], x: [0.1], k: [Number.NaN], value: [3] };
  assert.equal(csvOf(columns), 'panel,series,x,k,value\n"a ""b"", c","",0.1,,3\n');
});

test("packets are read at any offset", () => {
  let head = JSON.stringify({
    a: 1,
    arrays: [
      ["v", "f4", [2], 0],
      ["u", "u1", [3], 8],
    ],
  });
  head += " ".repeat((8 - (head.length % 8)) % 8);
  const bytes = new Uint8Array(3 + 8 + head.length + 16);
  const view = new DataView(bytes.buffer, 3);
  view.setUint32(0, 0x45325031, false);
  view.setUint32(4, head.length, true);
  bytes.set(new TextEncoder().encode(head), 11);
  view.setFloat32(8 + head.length, 1.5, true);
  view.setFloat32(12 + head.length, -2, true);
  bytes.set([7, 8, 9], 3 + 16 + head.length);
  const packet = readPacket(bytes.subarray(3));
  assert.equal(packet.head.a, 1);
  assert.deepEqual([...packet.arrays.v], [1.5, -2]);
  assert.deepEqual([...packet.arrays.u], [7, 8, 9]);
  assert.throws(() => readPacket(new Uint8Array(16)), /not a packet/);
});

// A recording in which nothing drifts, on a clock of one unit a step.
const still = (count, n) => ({
  count,
  n,
  N: 2 * (n - 1),
  width: 2,
  factor: 1,
  p: new Float32Array(count * n * 2),
  r: new Float64Array(count),
  probed: new Uint8Array(count * n).fill(1),
  clocks: { log_snr: Array.from({ length: count }, (_, i) => i) },
  bySample: () => false,
  weight: () => 1,
});
const policy = {
  clock: "log_snr",
  tau: 2.5,
  start: 0,
  k_low: -1,
  refresh_every: 0,
  probe_share: 0,
  tau_safe: 0,
  tau_warn: 0,
};

test("a late start makes no call before it, and then computes everything", () => {
  const shares = (start) => [...simulate(still(9, 3), { ...policy, trigger: "log_snr", start }).shares];
  assert.deepEqual(shares(0), [1, 0, 0, 1, 0, 0, 1, 0, 0]);
  assert.deepEqual(shares(2), [0, 0, 1, 0, 0, 1, 0, 0, 1]);
  const never = simulate(still(3, 2), { ...policy, trigger: "never", start: 2 });
  assert.deepEqual([...never.shares], [1, 0, 0]);
});

test("the published rule to the letter probes every R steps and never refreshes again", () => {
  const literal = { ...policy, trigger: "paper_literal", k_low: 0, refresh_every: 3, probe_share: 0.5 };
  const { reasons } = simulate(still(7, 2), literal);
  const above = Array.from({ length: 7 }, (_, i) => reasons[2 * i + 1]);
  assert.deepEqual(above, [4, 0, 0, 3, 0, 0, 3]);
});

test("lines pass the marks of all axes at once; without marks nothing is left out", () => {
  const lines = [
    { n: 1, v: [0.1, 0.9] },
    { n: 2, v: [0.5, null] },
    { n: 3, v: [0.5, 0.4] },
  ];
  assert.equal(passing(lines, {}), null);
  assert.deepEqual(passing(lines, { 0: [0.4, 0.6] }), [2, 3]);
  assert.deepEqual(passing(lines, { 0: [0.4, 0.6], 1: [0, 1] }), [3]);
  assert.deepEqual(passing(lines, { 1: [0.95, 1] }), []);
});

test("keys choose an axis, narrow what is kept on it from both ends, and let go", () => {
  const press = (state, ...keys) =>
    keys.reduce(
      (now, key) => keyed(now, 3, { key: key.replace("+", ""), shiftKey: key[0] === "+" }) ?? now,
      state,
    );
  const start = { axis: undefined, marks: {} };
  for (const key of ["+ArrowDown", "ArrowRight", "Escape"]) assert.deepEqual(press(start, key), start);
  assert.equal(press(start, "+ArrowRight").axis, 0);
  assert.equal(press(start, "+ArrowLeft", "+ArrowRight").axis, 2);
  const both = press(start, "+ArrowRight", "+ArrowDown", "+ArrowUp", "+ArrowRight", "+ArrowDown");
  assert.deepEqual(both, { axis: 1, marks: { 0: [0.05, 0.95], 1: [0, 0.95] } });
  assert.deepEqual(press(both, "Escape").marks, { 0: [0.05, 0.95] });
  const least = press({ axis: 0, marks: { 0: [0.5, 0.52] } }, "+ArrowDown", "+ArrowUp");
  assert.deepEqual(least.marks, { 0: [0.5, 0.5] });
});
