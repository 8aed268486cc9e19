import type { SimulationResult } from "@effect-resilience/core/testing"

/** A line of a plot. */
interface Line {
  readonly name: string
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

const width = 720
const panel = 150
const left = 56
const colours = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e5ea2", "#b8860b", "#555555", "#17a2a2", "#d2691e", "#999933"]

const round = (value: number) => Number(value.toPrecision(2))

const panelOf = (title: string, lines: ReadonlyArray<Line>, top: number, end: number): string => {
  const values = lines.flatMap(({ points }) => points.map(([, y]) => y)).filter(Number.isFinite).sort((a, b) => a - b)
  // What is far off the scale is cut, so that one collapse does not flatten the rest.
  const typical = values[Math.floor(values.length * 0.5)] ?? 1
  const highest = round(Math.min(values.at(-1) ?? 1, 4 * typical || 1) * 1.05)
  const x = (at: number) => (left + at / end * (width - left - 10)).toFixed(0)
  const y = (value: number) => (top + panel - Math.min(1, value / highest) * (panel - 10)).toFixed(0)
  const paths = lines.map(({ points }, i) => {
    let open = false
    const path = points.map(([at, value]) => {
      const part = Number.isFinite(value) ? `${open ? "L" : "M"}${x(at)} ${y(value)}` : ""
      open = Number.isFinite(value)
      return part
    }).join("")
    return `<path d="${path}" fill="none" stroke="${colours[i % colours.length]}" stroke-width="${i === 0 ? 2 : 1}"/>`
  })
  return [
    `<text x="${left}" y="${top + 2}" font-weight="bold">${title}</text>`,
    `<path d="M${left} ${top + 10}V${top + panel}H${width - 10}" fill="none" stroke="#888"/>`,
    `<text x="${left - 4}" y="${top + 18}" text-anchor="end">${highest}</text>`,
    `<text x="${left - 4}" y="${top + panel}" text-anchor="end">0</text>`,
    ...paths
  ].join("\n")
}

/** Goodput, p99 and limit over time, as SVG. */
export const plot = (title: string, runs: ReadonlyArray<readonly [name: string, result: SimulationResult]>): string => {
  const end = Math.max(...runs.map(([, { duration }]) => duration))
  const span = end / 80
  const spans = runs.map(([name, result]) => [name, result.every(span)] as const)
  const panels = [
    [
      "answers in time, in a second",
      spans.map(([name, all]) => ({ name, points: all.map((s) => [s.at, s.goodput] as const) }))
    ],
    ["p99, ms", spans.map(([name, all]) => ({ name, points: all.map((s) => [s.at, s.p99] as const) }))],
    ["limit", spans.map(([name, all]) => ({ name, points: all.map((s) => [s.at, s.limit] as const) }))]
  ] as const
  const legend = runs.map(([name], i) =>
    `<text x="${left + (i % 3) * 220}" y="${44 + Math.floor(i / 3) * 14}" fill="${
      colours[i % colours.length]
    }">${name}</text>`
  )
  const top = 60 + Math.ceil(runs.length / 3) * 14
  const height = top + panels.length * (panel + 30)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="${left}" y="22" font-size="14">${title}</text>`,
    ...legend,
    ...panels.map(([name, lines], i) => panelOf(name, lines, top + i * (panel + 30), end)),
    `<text x="${width - 10}" y="${height - 14}" text-anchor="end">0 to ${end / 1000} s</text>`,
    `</svg>\n`
  ].join("\n")
}
