// Numbers as people read them, distributions, and curves.

const SVG = "http://www.w3.org/2000/svg";
const STEPS = 8; // buckets for each power of two, as in ports/histogram.py

export function endOfBucket(bucket) {
  const shift = Math.max(0, Math.floor(bucket / STEPS) - 1);
  return (bucket - shift * STEPS + 1) * 2 ** shift;
}

/** What has come to a distribution since an earlier state of it: pairs of a bucket and a count. */
export function since(now, before) {
  const earlier = new Map(before ?? []);
  const grown = now.map(([bucket, count]) => [bucket, count - (earlier.get(bucket) ?? 0)]);
  const wasReset = grown.some(([, count]) => count < 0);
  return (wasReset ? now : grown).filter(([, count]) => count > 0);
}

/** The duration in nanoseconds that a share of all does not exceed; null if there are none. */
export function quantile(buckets, share) {
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  let below = 0;
  for (const [bucket, count] of buckets) {
    below += count;
    if (below >= share * total) return endOfBucket(bucket) - 1;
  }
  return null;
}

export function merged(distributions) {
  const all = new Map();
  for (const buckets of distributions)
    for (const [bucket, count] of buckets) all.set(bucket, (all.get(bucket) ?? 0) + count);
  return [...all].sort(([one], [other]) => one - other);
}

function short(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2).replace(/\.?0+$/, "");
}

export function number(value) {
  if (value == null || Number.isNaN(value)) return "–";
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"]]) if (value >= size) return short(value / size) + unit;
  return Number.isInteger(value) || value >= 1e3 ? Math.round(value).toLocaleString("en") : short(value);
}

export function bytes(value) {
  if (value == null) return "–";
  let at = 0;
  for (; value >= 1024 && at < 5; at++) value /= 1024;
  return `${short(value)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][at]}`;
}

export function nanoseconds(value) {
  if (value == null) return "–";
  if (value < 1e3) return `${value} ns`;
  if (value < 1e6) return `${short(value / 1e3)} µs`;
  if (value < 1e9) return `${short(value / 1e6)} ms`;
  return `${short(value / 1e9)} s`;
}

export function seconds(value) {
  if (value == null) return "–";
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.floor(value)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(value % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** An empty chart, for `draw`. */
export function chart() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["area", "curve"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  return svg;
}

/** Draw values from left to right, the newest at the right edge, of at most so many. */
export function draw(svg, values, most) {
  const [area, curve] = svg.children;
  if (values.length < 2) return;
  const highest = Math.max(...values, 1e-9);
  const left = 100 - ((values.length - 1) / (most - 1)) * 100;
  const points = values.map(
    (value, at) => `${(left + (at / (most - 1)) * 100).toFixed(2)} ${(37 - (value / highest) * 32).toFixed(2)}`,
  );
  curve.setAttribute("d", `M${points.join("L")}`);
  area.setAttribute("d", `M${points.join("L")}L100 40L${left.toFixed(2)} 40Z`);
}
