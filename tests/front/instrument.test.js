// Laws of the instrument's pure modules: node --test tests/front/

import assert from "node:assert/strict";
import { test } from "node:test";
import { Newest } from "../../pages/ui/front/live/asking.js";
import {
  dialOf,
  POSITIONS,
  placeOf,
  Reports,
  sameSetting,
  switched,
  valueAt,
} from "../../pages/ui/front/live/dial.js";
import { Measured, ratioText, unknownOf } from "../../pages/ui/front/live/pins.js";
import { domainsOf, marksOf } from "../../pages/ui/front/live/plane.js";
import { logTicks } from "../../pages/ui/front/shared/scales.js";

const HELLO = {
  triggers: {
    log_snr: {
      range: [0.03, 3],
      base: { trigger: "log_snr", tau: 0.2, predictor: "hold", clock: "log_snr" },
    },
    nested: {
      range: [0.005, 0.25],
      base: { trigger: "nested", tau: 0.05, predictor: "linear", clock: "profile" },
    },
    fixed: { range: null },
    bands: { range: null },
    always: { range: null },
  },
  knobs: { bands: { low: 0.02, high: 8 } },
};

test("questions: one under way, the newest waits, older ones are forgotten", () => {
  const sent = [];
  let now = 0;
  const newest = new Newest(
    (question) => sent.push(question.tau),
    () => now,
  );
  for (const tau of [1, 2, 3, 4]) newest.ask({ tau });
  assert.deepEqual(sent, [1]);
  newest.answered(1);
  assert.deepEqual(sent, [1, 4]);
  newest.answered(4);
  newest.answered(4);
  assert.deepEqual(sent, [1, 4]);
  newest.ask({ tau: 5 });
  newest.ask({ tau: 6 });
  // An answer to an older question does not end the wait for this one; one that is late does.
  newest.answered(3);
  assert.deepEqual(sent, [1, 4, 5]);
  now = 10000;
  newest.flush();
  assert.deepEqual(sent, [1, 4, 5, 6]);
});

test("a settled question gives way at once when the hand moves again", () => {
  const sent = [];
  const newest = new Newest(
    (question) => sent.push(question.tau),
    () => 0,
  );
  newest.ask({ tau: 1, settle: true });
  newest.ask({ tau: 2 });
  newest.ask({ tau: 3 });
  assert.deepEqual(sent, [1, 2]);
});

test("serial numbers rise by one for each question", () => {
  const serials = [];
  const newest = new Newest((question) => serials.push(question.serial));
  for (let i = 0; i < 3; i++) newest.answered(newest.ask({}));
  assert.deepEqual(serials, [1, 2, 3]);
});

test("the slider multiplies, and each position is a value of its own", () => {
  const dial = dialOf(HELLO, { trigger: "log_snr", tau: 0.3 }, 40);
  assert.equal(placeOf(dial), POSITIONS / 2);
  assert.ok(Math.abs(valueAt(dial, 0) - 0.03) < 1e-12 && Math.abs(valueAt(dial, POSITIONS) - 3) < 1e-12);
  const ratio = valueAt(dial, 11) / valueAt(dial, 10);
  assert.ok(Math.abs(valueAt(dial, 101) / valueAt(dial, 100) - ratio) < 1e-9);
  assert.deepEqual(dial.turned(0.123456), { trigger: "log_snr", tau: 0.123 });
  assert.equal(placeOf({ ...dial, value: 99 }), POSITIONS);
});

test("rules without tau turn what they have, and a constant rule nothing", () => {
  const fixed = dialOf(HELLO, { trigger: "fixed", refresh_every: 10 }, 40);
  assert.deepEqual([fixed.low, fixed.high, fixed.turned(4.4).refresh_every], [1, 20, 4]);
  const policy = {
    trigger: "bands",
    bands: [
      [16, 0.2],
      [100, 0.8],
    ],
  };
  const bands = dialOf(HELLO, policy, 40);
  assert.deepEqual(bands.turned(0.4).bands, [
    [16, 0.4],
    [100, 1.6],
  ]);
  assert.ok(bands.low * 4 >= 0.02 && bands.high * 4 <= 8 + 1e-9);
  assert.equal(dialOf(HELLO, { trigger: "always" }, 40), null);
});

test("another rule brings its usual values and keeps the predictor and the clock where it has none", () => {
  const before = { trigger: "nested", tau: 0.1, predictor: "linear", clock: "profile", k_low: 4 };
  const after = switched(HELLO.triggers, before, "log_snr");
  assert.deepEqual(after, { trigger: "log_snr", tau: 0.2, predictor: "linear", clock: "profile" });
  assert.ok(sameSetting(after, { ...after }) && !sameSetting(after, before) && !sameSetting(after, null));
});

test("an echo from the page, however late, is told from a change that the page made", () => {
  const reports = new Reports();
  const [a, b, c] = [1, 2, 3].map((tau) => ({ policy: { tau } }));
  assert.ok(reports.news(a) && reports.news(b) && !reports.news(b));
  // The page answers a when b is already on its way.
  assert.ok(reports.echo(a) && reports.echo(b));
  // Now the same settings are the page's own wish, and so is one that was never reported.
  assert.ok(!reports.echo(a) && !reports.echo(c));
  reports.taken(c);
  assert.ok(!reports.news(c) && reports.news(a) && reports.news(b));
  // The page may skip a setting: what lies before the one it shows will not come any more.
  assert.ok(reports.echo(b) && !reports.echo(a));
});

const answer = {
  head: {
    policy: { tau: 1 },
    cost: 5,
    ms: 40,
    tokens: 300,
    full: { cost: 40, ms: 300, tokens: 2400 },
    error: { pooled: [0.09, 0.07, 0.12] },
    settled: true,
  },
};

test("the plane shows each kind of mark in the unit of the axis", () => {
  const of = (unit) => {
    const shown = {
      answer,
      trail: [answer],
      curve: { points: [[1, 0.1, 6, 400, 0]] },
      anchors: { alone: [[0.2, 8, 480, 60, "dpmpp_2m"]] },
      pins: [{ cost: 4, ms: 30, tokens: 200, error: 0.3 }],
    };
    return Object.fromEntries(marksOf(shown, unit).map((mark) => [mark.kind, mark.x]));
  };
  assert.deepEqual(of("cost"), { alone: 8, curve: 6, trail: 5, pin: 4, full: 40, now: 5 });
  // What is predicted has no time on this machine.
  assert.deepEqual(of("ms"), { alone: 60, trail: 40, pin: 30, full: 300, now: 40 });
  assert.deepEqual(of("tokens"), { alone: 480, curve: 400, trail: 300, pin: 200, full: 2400, now: 300 });
});

test("axes hold all marks, span a decade, and never shrink", () => {
  const marks = [
    { x: 5, y: 0.1 },
    { x: 40, y: 1e-5 },
  ];
  const first = domainsOf(marks, [0.7], undefined);
  assert.ok(first.x[0] < 5 && first.x[1] > 40 && first.y[0] < 0.1 && first.y[1] > 0.7);
  assert.ok(first.x[1] / first.x[0] > 10);
  const same = domainsOf([{ x: 6, y: 0.2 }], [], first);
  for (const axis of ["x", "y"])
    for (const end of [0, 1]) assert.ok(Math.abs(same[axis][end] / first[axis][end] - 1) < 1e-9);
});

test("ticks of a logarithmic axis are 1, 2 and 5 where there is room", () => {
  assert.deepEqual(logTicks(0.9, 12, 10), [1, 2, 5, 10]);
  assert.deepEqual(logTicks(0.01, 1000, 6), [0.01, 0.1, 1, 10, 100, 1000]);
});

test("a pin is compared with the present setting in words", () => {
  assert.equal(ratioText(0.2, 0.1), "2 × more");
  assert.equal(ratioText(2, 5), "2.5 × less");
  assert.equal(ratioText(5, 5), "equal");
  assert.equal(ratioText(0, 1), "");
});

test("what was measured of settings is bounded, and damaged storage counts as none", () => {
  const kept = new Map([["e2crf-pins", "[{]"]]);
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  const measured = new Measured(storage);
  for (let i = 0; i < 100; i++) measured.set(`pin ${i}`, { error: i });
  assert.deepEqual(new Measured(storage).get("pin 99"), { error: 99 });
  assert.deepEqual(new Measured(storage).get("pin 1"), {});
  assert.ok(Object.keys(new Measured(storage).values).length < 100);
});

test("pins without a value are asked for, as many as a message holds", () => {
  const pins = [{ text: "a" }, { text: "b", error: 0 }, { text: "c", why: "no" }, { text: "d" }];
  assert.equal(unknownOf(pins), "a;d");
  const long = Array.from({ length: 8 }, (_, i) => ({ text: `${i}`.repeat(700) }));
  assert.ok(unknownOf(long).length < 2100 && unknownOf(long).startsWith("0"));
});
