/** Panels over time, as SVG: on a white card, for pages that are light and pages that are dark. */
import type { SimulationResult } from "@effect-resilience/core/testing"
import type { Disturbance, Scenario, Stack } from "./scenario.js"

/** What is drawn. */
interface Card {
  readonly title: string
  /** What it shows, for those who see no picture. */
  readonly shows: string
  readonly says: string
  /** Milliseconds. */
  readonly end: number
  readonly during: Disturbance | undefined
  readonly panels: ReadonlyArray<Panel>
}

/** A line of a panel. Where a value is not finite it has a gap. */
export interface Line {
  readonly name: string
  readonly style: Style
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

export interface Style {
  readonly colour: string
  readonly width: number
  readonly dashed?: boolean
}

export interface Panel {
  readonly title: string
  readonly hint: string
  readonly lines: ReadonlyArray<Line>
}

const width = 840
const left = 62
const right = width - 18
const height = 150
/** From the top of one panel to that of the next: its title, its times below. */
const pitch = height + 66
const text = "#333"
const faint = "#707070"
const shaded = "#FFF3D6"

/** Told apart by those who do not see all colours, too (Okabe and Ito). */
const others = ["#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#9467BD"]

/** Those of ours, of nothing, and of the others. */
export const styles = {
  ours: { colour: "#0057B8", width: 2.6 },
  bare: { colour: "#D5301F", width: 2 },
  other: (index: number): Style => ({ colour: others[index % others.length] ?? faint, width: 1.3 })
}

const styleOf = ({ name, ours }: Stack, index: number, firstBare: boolean): Style =>
  ours === true
    ? styles.ours
    : firstBare
    ? styles.bare
    : name.includes("oracle")
    ? { colour: "#222", width: 1.4, dashed: true }
    : styles.other(index)

const stroke = ({ colour, dashed, width }: Style) =>
  `stroke="${colour}" stroke-width="${width}"${dashed === true ? ` stroke-dasharray="5 3"` : ""}`

const say = (x: number, y: number, content: string, more = "") =>
  `<text x="${x}" y="${y}"${more}>${content.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`

/** Round numbers from 0 to this, about as many. */
const ticks = (highest: number, many: number): ReadonlyArray<number> => {
  const rough = highest / many
  const magnitude = 10 ** Math.floor(Math.log10(rough))
  const step = magnitude * ([1, 2, 5].find((n) => n * magnitude >= rough) ?? 10)
  return Array.from({ length: Math.floor(highest / step + 1e-9) + 1 }, (_, i) => i * step)
}

const valuesOf = ({ points }: Line) => points.map(([, y]) => y).filter(Number.isFinite)

/** All of ours is shown. What is far off the scale of the rest is cut, so that one collapse does not flatten it. */
const highestOf = (lines: ReadonlyArray<Line>): number => {
  const values = lines.flatMap(valuesOf).sort((a, b) => a - b)
  const typical = values[Math.floor(values.length / 2)] ?? 1
  const ours = Math.max(...lines.slice(0, 1).flatMap(valuesOf))
  return Math.min(values.at(-1) ?? 1, Math.max(4 * typical || Infinity, ours)) * 1.05 || 1
}

const panelOf = ({ hint, lines, title }: Panel, top: number, end: number, during: Disturbance | undefined) => {
  const highest = highestOf(lines)
  const bottom = top + height
  const x = (at: number) => Number((left + at / end * (right - left)).toFixed(1))
  const y = (value: number) => Number((bottom - value / highest * height).toFixed(1))
  const above = lines.filter((line) => valuesOf(line).some((value) => value > highest)).map(({ name }) => name)
  const cut = above.length > 3 ? `${above.length} lines` : above.join(", ")
  const hints = [hint, cut === "" ? "" : `above the scale at times: ${cut}`].filter(Boolean)
  const shade = during === undefined ? [] : [
    `<rect x="${x(during.from)}" y="${top}" width="${
      x(during.to) - x(during.from)
    }" height="${height}" fill="${shaded}"/>`
  ]
  const scale = ticks(highest, 4).flatMap((value) => [
    `<path d="M${left} ${y(value)}H${right}" stroke="#ddd"/>`,
    say(left - 7, y(value) + 4, String(Number(value.toPrecision(6))), ` text-anchor="end"`)
  ])
  const times = ticks(end / 1000, 11).flatMap((second) => [
    `<path d="M${x(second * 1000)} ${bottom}v4" stroke="#888"/>`,
    say(x(second * 1000), bottom + 17, second === 0 ? "0 s" : String(second), ` text-anchor="middle"`)
  ])
  // What is drawn last is on top: ours.
  const paths = [...lines].reverse().map(({ points, style }) => {
    let open = false
    const path = points.map(([at, value]) => {
      const part = Number.isFinite(value) ? `${open ? "L" : "M"}${x(at)} ${y(Math.min(value, 9 * highest))}` : ""
      open = Number.isFinite(value)
      return part
    }).join("")
    return path === "" ? "" : `<path d="${path}" fill="none" stroke-linejoin="round" ${stroke(style)}/>`
  })
  return [
    say(left, top - 8, title, ` font-weight="bold" font-size="13"`),
    say(right, top - 8, hints.join("; "), ` text-anchor="end" fill="${faint}"`),
    ...shade,
    ...scale,
    ...times,
    `<clipPath id="at${top}"><rect x="${left}" y="${top}" width="${right - left}" height="${height}"/></clipPath>`,
    `<g clip-path="url(#at${top})">`,
    ...paths,
    `</g>`,
    `<path d="M${left} ${top}V${bottom}H${right}" fill="none" stroke="#888"/>`
  ]
}

export const plot = (
  { during, id, name, says }: Scenario,
  seed: number,
  runs: ReadonlyArray<{ readonly stack: Stack; readonly result: SimulationResult }>
): string => {
  const end = Math.max(...runs.map(({ result }) => result.duration))
  const ours = (stack: Stack) => stack.ours === true ? 0 : 1
  const bare = runs.find(({ stack }) => stack.name.startsWith("no protection"))
  const drawn = runs.filter(({ stack }) => stack.plotted !== false)
    .sort((a, b) => ours(a.stack) - ours(b.stack))
    .map(({ result, stack }, i) => ({
      name: stack.ours === true ? `${stack.name} (ours)` : stack.name,
      style: styleOf(stack, i, stack === bare?.stack),
      spans: result.every(end / 60)
    }))
  const linesOf = (measure: "goodput" | "p99" | "limit"): ReadonlyArray<Line> =>
    drawn.map(({ name, spans, style }) => ({ name, style, points: spans.map((span) => [span.at, span[measure]]) }))
  return draw({
    title: `${id}. ${name}`,
    shows: "goodput, p99 and limit over time",
    says: `${says} (seed ${seed})`,
    end,
    during,
    panels: [
      { title: "Answers in time, per second", hint: "more is better", lines: linesOf("goodput") },
      {
        title: "p99 of the answers in time, ms",
        hint: "a gap: no answers",
        lines: linesOf("p99")
      },
      { title: "Limit: calls that may run at once", hint: "", lines: linesOf("limit") }
    ]
  })
}

/** The first line of a panel is ours: all of it is shown. */
export const draw = ({ during, end, panels, says, shows, title }: Card): string => {
  const entries = [
    ...(panels[0]?.lines ?? []).map(({ name, style }) => ({
      name,
      sign: (x: number, y: number) => `<path d="M${x} ${y - 4}h24" ${stroke(style)}/>`
    })),
    ...(during === undefined ? [] : [{
      name: during.name,
      sign: (x: number, y: number) =>
        `<rect x="${x}" y="${y - 11}" width="24" height="14" fill="${shaded}" stroke="#ddd"/>`
    }])
  ]
  const perRow = entries.some(({ name }) => name.length > 32) ? 2 : 3
  const rows = Math.ceil(entries.length / perRow)
  const key = entries.flatMap(({ name, sign }, i) => {
    const x = left + (i % perRow) * Math.floor((right - left) / perRow)
    const y = 74 + Math.floor(i / perRow) * 18
    return [sign(x, y), say(x + 30, y, name)]
  })
  const top = 88 + rows * 18 + 8
  const whole = top + panels.length * pitch - 30
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${whole}" width="${width}" height="${whole}" ` +
    `role="img" font-family="system-ui, sans-serif" font-size="12" fill="${text}">`,
    `<title>${title}: ${shows}</title>`,
    `<rect width="${width}" height="${whole}" rx="6" fill="white"/>`,
    say(left, 28, title, ` font-size="17" font-weight="bold"`),
    say(left, 48, says, ` fill="${faint}"`),
    ...key,
    ...panels.flatMap((panel, i) => panelOf(panel, top + i * pitch, end, during)),
    `</svg>\n`
  ].join("\n")
}
