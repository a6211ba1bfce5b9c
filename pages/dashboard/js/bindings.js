// From a trace's `meta` (see moe_sim/charts/page.py) to the arrays it shows now.

const MOST_POINTS = 400;

// Indices of the rows to draw: all, or every 2nd, 4th … so that drawn points stay where they are; the last one always.
function thinned(length) {
  let stride = 1;
  while (length / stride > MOST_POINTS) stride *= 2;
  const indices = [];
  for (let i = stride - 1; i < length; i += stride) indices.push(i);
  if (length && indices[indices.length - 1] !== length - 1) indices.push(length - 1);
  return indices;
}

function bindRows(meta, store) {
  const count = store.numExperts;
  const column = store.rows[meta.rows] ?? [];
  const perExpert = meta.index !== undefined;
  const indices = thinned(perExpert ? column.length / count : column.length);
  const x = indices.map((i) => i + 1);
  if (perExpert) return { x, y: indices.map((i) => 100 * column[i * count + meta.index]) };
  if (meta.less !== undefined) return bindDifference(meta, store, indices);
  if (meta.smooth) return { x, y: indices.map((i) => store.smoothed[meta.rows][i]) };
  const y = indices.map((i) => column[i]);
  if (!meta.infinity) return { x, y };
  return {
    x,
    y: y.map((value) => value ?? meta.infinity),
    text: y.map((value) => (value === null ? "∞" : String(value))),
  };
}

// A smoothed quantity less that of another run at the same step.
function bindDifference(meta, store, indices) {
  const own = store.smoothed[meta.rows];
  const other = store.peers[meta.less].smoothed[meta.rows] ?? [];
  const shared = indices.filter((i) => i < other.length);
  return { x: shared.map((i) => i + 1), y: shared.map((i) => own[i] - other[i]) };
}

// When an expert was dead, as pieces of a line.
function bindSpells(meta, store) {
  const x = (store.latest.timeline.spells[meta.spells] ?? []).flatMap(([first, last]) => [first, last, null]);
  return { x, y: x.map((step) => (step === null ? null : meta.height)) };
}

function bindCoarse(meta, store) {
  const column = store.coarse[meta.coarse] ?? [];
  const indices = thinned(column.length / store.numExperts);
  return {
    x: indices.map((i) => (i + 1) * COARSE),
    y: indices.map((i) => column[i * store.numExperts + meta.index] || null),
  };
}

function bindHeat(meta, store) {
  const count = store.numExperts;
  const column = store.rows[meta.heat] ?? [];
  const indices = thinned(column.length / count);
  const z = Array.from({ length: count }, (_, expert) => indices.map((i) => 100 * column[i * count + expert]));
  return { x: indices.map((i) => i + 1), z };
}

function bindSignal(meta, store) {
  const column = store.signals[meta.signal] ?? [];
  const indices = thinned(column.length);
  return {
    x: indices.map((i) => (i + 1) * COARSE),
    y: indices.map((i) => (column[i] === null || (meta.log && column[i] <= 0) ? null : column[i] * meta.factor)),
  };
}

function bindNow({ meta }, store) {
  const values = store.now(meta.now).map((share) => (meta.times ?? 100) * share);
  return meta.times ? { x: values } : { y: meta.choices ? values.slice(0, store.latest.live.top_k) : values };
}

function bindPlain({ meta }, store) {
  return { y: store.latest.now[meta.plain] };
}

// Experts × experts, empty on the diagonal and where nothing was sent.
function bindTogether(store) {
  const z = square(store.latest.together, store.numExperts);
  z.forEach((row, i) => { row[i] = null; });
  return { z };
}

// A matrix of shares in letters → rows of percents.
function square(letters, columns) {
  const percents = Array.from(letters, (letter) => (100 * LETTERS.indexOf(letter)) / 63);
  const rows = [];
  for (let start = 0; start < percents.length; start += columns) rows.push(percents.slice(start, start + columns));
  return rows;
}

// Under each bar the expert's number and its share, as moe_sim/charts/overview.py has it; where bars are narrow only a mark
// under dead ones.
function barLabels(store, { palette, dead_share }, width) {
  const limit = store.steps >= HORIZON ? dead_share / store.numExperts : -1;
  const narrow = width / store.numExperts < 36;
  return store.now("smoothed_load").map((share, i) => {
    const dead = share < limit;
    const word = narrow ? (dead ? "✕" : "\u00a0") : dead ? "dead" : percent(share);
    return `${i + 1}<br><span style="color:${dead ? palette.danger : palette.ink}">${word}</span>`;
  });
}

function bindMap(trace, store, context) {
  const taken = routing(store.latest, store.numExperts);
  const colours = taken.expert.map((expert) => context.colours[expert]);
  const { background } = context.palette;
  return {
    text: taken.expert.map((expert, i) => `expert ${expert + 1}` + (taken.dropped[i] ? ", dropped" : "")),
    marker: {
      ...trace.marker,
      color: colours.map((colour, i) => (taken.dropped[i] ? background : colour)),
      line: {
        width: taken.dropped.map((lost) => (lost ? 1.6 : 0.5)),
        color: colours.map((colour, i) => (taken.dropped[i] ? colour : background)),
      },
    },
  };
}

function bindJoint(store) {
  return { z: square(store.latest.joint, store.numExperts) };
}

function bindLimit(trace, store) {
  const factor = store.latest.live.capacity_factor;
  return { y: trace.x.map(() => (factor === null ? null : (100 * factor) / store.numExperts)) };
}

function bind(trace, store, context) {
  const meta = trace.meta ?? {};
  let bound = {};
  if (meta.rows) bound = bindRows(meta, store);
  else if (meta.spells !== undefined) bound = bindSpells(meta, store);
  else if (meta.coarse) bound = bindCoarse(meta, store);
  else if (meta.heat) bound = bindHeat(meta, store);
  else if (meta.signal) bound = bindSignal(meta, store);
  else if (meta.plain) bound = bindPlain(trace, store);
  else if (meta.together) bound = bindTogether(store);
  else if (meta.now) bound = bindNow(trace, store);
  else if (meta.map) bound = bindMap(trace, store, context);
  else if (meta.joint) bound = bindJoint(store);
  else if (meta.limit) bound = bindLimit(trace, store);
  return { ...trace, ...bound };
}

// Which expert takes each held-out token, and whether capacity drops the token.
function routing(message, numExperts) {
  let expert = Array.from(message.map, (letter) => LETTERS.indexOf(letter));
  if (numExperts <= 8) expert = expert.flatMap((pair) => [pair >> 3, pair & 7]);
  const bits = message.dropped ? Array.from(atob(message.dropped), (byte) => byte.charCodeAt(0)) : [];
  return { expert, dropped: expert.map((_, i) => Boolean((bits[i >> 3] ?? 0) & (128 >> (i & 7)))) };
}

function percent(share) {
  const value = 100 * share;
  return `${value > 0 && value < 0.95 ? value.toFixed(1) : Math.round(value)}\u00a0%`;
}
