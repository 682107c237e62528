// A recorded measurement: families of settings with their intervals, each in a color, a mark and a dash of its own.

const MARKS = [
  ["●", (c, x, y, r) => c.arc(x, y, r, 0, 6.3)],
  ["■", (c, x, y, r) => c.rect(x - r, y - r, 2 * r, 2 * r)],
  ["◆", (c, x, y, r) => corners(c, [x, y - 1.3 * r], [x + 1.3 * r, y], [x, y + 1.3 * r], [x - 1.3 * r, y])],
  ["▲", (c, x, y, r) => corners(c, [x, y - 1.2 * r], [x + 1.2 * r, y + r], [x - 1.2 * r, y + r])],
  ["▼", (c, x, y, r) => corners(c, [x, y + 1.2 * r], [x + 1.2 * r, y - r], [x - 1.2 * r, y - r])],
];
const DASHES = [[], [7, 4], [2, 4], [7, 4, 2, 4], [12, 4]];
const RADIUS = 4;

const corners = (c, ...points) => {
  points.forEach(([x, y], i) => {
    c[i ? "lineTo" : "moveTo"](x, y);
  });
  c.closePath();
};

const around = (values, pad) => [Math.min(...values) / pad, Math.max(...values) * pad];

// Points are [x, error, low end, high end of its interval].
const drawFamily = (plot, t, { name, points }, place) => {
  const color = t.colors[place % t.colors.length];
  const mark = MARKS[place % MARKS.length][1];
  const at = points.map(([x, y]) => [plot.x(x), plot.y(y)]);
  plot.clipped((c) => {
    c.strokeStyle = color;
    c.fillStyle = color;
    c.lineWidth = 1.8;
    c.setLineDash(DASHES[place % DASHES.length]);
    c.beginPath();
    at.forEach(([x, y], i) => {
      c[i ? "lineTo" : "moveTo"](x, y);
    });
    c.stroke();
    c.setLineDash([]);
    points.forEach(([, , low, high], i) => {
      plot.straight([at[i][0], plot.y(low), at[i][0], plot.y(high)], color, { width: 1.3 });
      c.beginPath();
      mark(c, ...at[i], RADIUS * plot.type);
      c.fill();
    });
  });
  if (plot.recording)
    for (const [i, part] of ["error", "interval, low", "interval, high"].entries())
      plot.recording.push({
        name: `${name}: ${part}`,
        color,
        x: points.map((p) => p[0]),
        value: points.map((p) => p[i + 1]),
      });
};

export const study = {
  panels: [["study", "Recorded measurement", true]],
  controls: () => [],
  compute: (d) => d.families,
  values: () => [],
  draw(lab, d, _s, families, t) {
    const plot = lab.plots.study;
    const points = families.flatMap((family) => family.points);
    const ends = points.flatMap(([, , low, high]) => [low, high]);
    plot.axes(
      t,
      {
        domain: around(
          points.map(([x]) => x),
          1.12,
        ),
        log: true,
        title: d.x,
      },
      d.log
        ? { domain: around(ends, 1.15), log: true, fine: true, title: d.y }
        : { domain: [0, 1.08 * Math.max(...ends)], title: d.y },
    );
    families.forEach((family, place) => {
      drawFamily(plot, t, family, place);
    });
  },
  legend: (t, d) => ({
    study: d.families.map(({ name }, place) => [
      `${MARKS[place % MARKS.length][0]} ${name}`,
      t.colors[place % t.colors.length],
    ]),
  }),
};
