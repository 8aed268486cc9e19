// @ts-check
/*
 * Elements. All text of instances gets into the page through `h`, as text nodes and attributes: never as HTML.
 */

/** @typedef {Node | string | false | undefined} Child */

/**
 * @param {Element} node
 * @param {Record<string, any>} props
 * @param {ReadonlyArray<Child>} children
 */
const fill = (node, props, children) => {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue
    if (typeof value === "function") node.addEventListener(name, value)
    else node.setAttribute(name, String(value))
  }
  for (const child of children) if (child !== undefined && child !== false) node.append(child)
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 */
export const h = (tag, props = {}, ...children) => {
  const node = document.createElement(tag)
  fill(node, props, children)
  return node
}

/** @param {string} tag @param {Record<string, any>} [props] @param {...Child} children */
export const svg = (tag, props = {}, ...children) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag)
  fill(node, props, children)
  return node
}

/** @param {number} part */
const clamp = (part) => Math.max(0, Math.min(1, Number.isFinite(part) ? part : 0))

/**
 * A bar with what it means: `in use  7 of 10`. `marks` are places on it, as parts of one.
 *
 * @param {string} label
 * @param {string} value
 * @param {number} part
 * @param {{ level?: number, marks?: ReadonlyArray<number> }} [look]
 */
export const bar = (label, value, part, { level = 0, marks = [] } = {}) => {
  const width = clamp(part) * 100
  return h(
    "div",
    { class: "bar" },
    h("span", { class: "label" }, label),
    h("span", { class: "value" }, value),
    svg(
      "svg",
      { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", width: 100, height: 6 }),
      svg("rect", { class: `fill level${level}`, width: width > 0 ? Math.max(width, 1) : 0, height: 6 }),
      ...marks.map((mark) => svg("rect", { class: "mark", x: clamp(mark) * 99.2, width: 0.8, height: 6 }))
    )
  )
}

/**
 * A ring that is full at 1, with a notch where the limit is.
 *
 * @param {number | null} part
 * @param {number | undefined} limit
 * @param {string} text
 * @param {number} level
 */
export const ring = (part, limit, text, level) => {
  const around = 2 * Math.PI * 26
  const angle = 2 * Math.PI * clamp(limit ?? 0)
  /** @param {number} radius */
  const at = (radius) => [32 + radius * Math.sin(angle), 32 - radius * Math.cos(angle)]
  const [x1, y1] = at(21)
  const [x2, y2] = at(31)
  return svg(
    "svg",
    { class: "ring", viewBox: "0 0 64 64", role: "img", "aria-label": text },
    svg("circle", { class: "track", cx: 32, cy: 32, r: 26 }),
    svg("circle", {
      class: `arc level${level}`,
      cx: 32,
      cy: 32,
      r: 26,
      transform: "rotate(-90 32 32)",
      "stroke-dasharray": `${clamp(part ?? 0) * around} ${around}`
    }),
    limit !== undefined && limit < 1 && svg("line", { class: "notch", x1, y1, x2, y2 }),
    svg("text", { x: 32, y: 36.5 }, text)
  )
}

/** Values of a graph, whatever is known of them. */
const steps = 60

/**
 * Two lines over time, the newest to the right: what came, and what was turned away.
 *
 * @param {ReadonlyArray<number>} calls
 * @param {ReadonlyArray<number>} rejected
 * @param {string} label
 */
export const spark = (calls, rejected, label) => {
  const top = Math.max(1, ...calls, ...rejected)
  /** @param {number} i */
  const x = (i) => (200 - (calls.length - 1 - i) * 200 / (steps - 1)).toFixed(1)
  /** @param {ReadonlyArray<number>} values */
  const points = (values) => values.map((v, i) => `${x(i)},${(31 - 30 * v / top).toFixed(1)}`).join(" ")
  return svg(
    "svg",
    { class: "spark", viewBox: "0 0 200 32", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("polyline", { class: "area", points: `${x(0)},32 ${points(calls)} 200,32` }),
    svg("polyline", { class: "calls", points: points(calls) }),
    rejected.some((n) => n > 0) && svg("polyline", { class: "rejected", points: points(rejected) })
  )
}

/** What is measured, in two columns. @param {ReadonlyArray<readonly [string, string]>} rows */
export const facts = (rows) => h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))
