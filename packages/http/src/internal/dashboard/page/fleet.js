// @ts-check
/*
 * All processes of the fleet: each instance in a row, how many processes say what of it, and those that matter most side
 * by side.
 */
import { flowOf, heldOf, labelOf } from "./cards.js"
import { columnsOf, groupsOf, listOf, namesOf, wordsOf } from "./compare.js"
import { h } from "./dom.js"
import { byName, count, percent, some, span } from "./format.js"
import { isBase, isShared, judge, reasonOf, totalsOf } from "./judge.js"
import { about } from "./store.js"

/** @typedef {import("./judge.js").Instance} Instance */
/** @typedef {ReturnType<typeof totalsOf>} Totals */
/**
 * @typedef {{ id: string, pattern: string, instance: string, metrics: Record<string, any>,
 *   settings: Record<string, any> | null }} Told
 * @typedef {{ id: string, label: string, status: "Live" | "Late" | "Gone", heardAgo: number | null, omitted: number,
 *   problem: string | null, instances: ReadonlyArray<Told> }} Process
 * @typedef {{ problem: string | null, count: number, late: number, gone: number, processes: ReadonlyArray<Process> }} Fleet
 */

/** More are found by the filter. */
const shownRows = 60
const shownColumns = 12
/** Names of those that are not heard. */
const shownNames = 6
/** Seconds over which a rate is taken. */
const rateOver = 5

/** The last counters of each instance of each process, one a second. @type {Map<string, Array<Totals>>} */
const fleetHistories = new Map()

/** @param {Process} process @param {Told} told */
const seriesKey = (process, told) => `${process.id} ${told.id}`

/** Once a second: the counters as they stand. */
export const sampleFleet = () => {
  const known = new Set()
  for (const process of about.fleet?.processes ?? []) {
    for (const told of process.instances) {
      const key = seriesKey(process, told)
      known.add(key)
      const history = fleetHistories.get(key) ?? []
      fleetHistories.set(key, history)
      history.push(totalsOf(told.metrics))
      if (history.length > rateOver + 1) history.shift()
    }
  }
  for (const key of fleetHistories.keys()) if (!known.has(key)) fleetHistories.delete(key)
}

/** As a card would have it, with what of late came to it. @param {Process} process @param {Told} told @returns {Instance} */
const instanceOf = (process, told) => {
  const history = fleetHistories.get(seriesKey(process, told)) ?? []
  const [from] = history
  const to = history.at(-1)
  const over = Math.max(1, history.length - 1)
  /** @param {keyof Totals} name */
  const each = (name) => from === undefined || to === undefined ? 0 : Math.max(0, to[name] - from[name]) / over
  const flow = {
    offered: each("offered"),
    rejected: each("rejected"),
    bad: each("bad"),
    retries: each("retries"),
    fallbacks: each("fallbacks")
  }
  return { ...told, recent: {}, flow, seconds: history.length, highest: 0 }
}

/** The figure that matters, where there is one. @param {Instance} instance */
const figureOf = (instance) => {
  const { metrics, pattern } = instance
  if (pattern === "CircuitBreaker") {
    return typeof metrics.failureRate === "number" ? `${percent(metrics.failureRate)} failed` : ""
  }
  if (pattern === "RateLimiter") return String(metrics.rate ?? "")
  if (pattern === "RedisConnection") return reasonOf(metrics)
  if (pattern === "Bulkhead" && isShared(instance)) return heldOf(instance)
  return typeof metrics.active === "number" && "limit" in metrics
    ? `${count(metrics.active)} of ${count(metrics.limit)}`
    : ""
}

/**
 * What one process tells of one instance; another version may tell what is not understood here.
 *
 * @typedef {{ level: number, state: string, flow: Instance["flow"] | undefined, content: () => ReadonlyArray<Node> }} Cell
 * @param {Process} process
 * @param {Told} told
 * @returns {Cell}
 */
const cellOf = (process, told) => {
  try {
    const instance = instanceOf(process, told)
    const { level, state } = judge(instance)
    return {
      level,
      state,
      flow: instance.flow,
      content: () => [
        h("span", { class: `pill level${level}` }, state),
        h("span", {}, figureOf(instance)),
        h("div", {}, ...flowOf(instance))
      ]
    }
  } catch {
    const state = "not understood here"
    return { level: 0, state, flow: undefined, content: () => [h("span", { class: "quiet" }, state)] }
  }
}

/**
 * @typedef {{ pattern: string, instance: string, level: number, cells: Map<Process, Cell> }} Row
 */

/** All instances that any process tells of. @param {ReadonlyArray<Process>} processes */
const rowsOf = (processes) => {
  /** @type {Map<string, Row>} */
  const rows = new Map()
  for (const process of processes) {
    for (const told of process.instances) {
      const { instance, pattern } = told
      const row = rows.get(told.id) ?? { pattern, instance, level: 0, cells: new Map() }
      const cell = cellOf(process, told)
      row.level = Math.max(row.level, cell.level)
      row.cells.set(process, cell)
      rows.set(told.id, row)
    }
  }
  return [...rows.values()]
}

/** How many processes say what of an instance, and who those few are that differ. @param {Row} row */
const allOf = ({ cells }) => {
  const groups = groupsOf([...cells].map(([{ label }, { level, state }]) => ({ label, level, state })))
  const flows = [...cells.values()].flatMap(({ flow }) => flow === undefined ? [] : [flow])
  /** @param {"offered" | "rejected"} name */
  const sum = (name) => flows.reduce((all, flow) => all + flow[name], 0)
  return [
    ...groups.map((group) => {
      const names = namesOf(group, cells.size)
      return h(
        "p",
        { title: names === undefined ? listOf(group.labels, 20) : undefined },
        h("span", { class: `pill level${group.level}` }, `${count(group.labels.length)} ${group.state}`),
        names !== undefined && ` ${names}`
      )
    }),
    h("div", {}, ...flowOf({ flow: { offered: sum("offered"), rejected: sum("rejected") } }))
  ]
}

/** @param {Process} process */
const headOf = ({ heardAgo, label, omitted, problem, status }, /** @type {number} */ i) =>
  h(
    "th",
    { scope: "col", class: status === "Live" ? "" : "notHeard" },
    h("div", {}, label),
    status === "Live"
      ? i === 0 && h("div", { class: "quiet" }, "this one")
      : h("span", { class: "pill level3" }, `late, heard ${span(heardAgo)} ago`),
    problem !== null && h("div", { class: "quiet" }, problem),
    omitted > 0 && h("div", { class: "quiet" }, `${count(omitted)} more instances`)
  )

/** @param {Fleet} fleet @param {number} troubled instances that are not well somewhere */
const titleOf = (fleet, troubled) => {
  const { gone, late } = fleet
  const parts = [
    some(fleet.count, "process", "processes"),
    late > 0 && `${late} late`,
    gone > 0 && `${gone} gone`,
    troubled > 0 && `${some(troubled, "instance")} in trouble`
  ]
  return `Fleet: ${parts.filter(Boolean).join(", ")}`
}

/** Who is not heard, by name. @param {ReadonlyArray<Process>} processes */
const unheardOf = (processes) =>
  /** @type {const} */ (["Late", "Gone"]).flatMap((status) => {
    const names = processes.filter((process) => process.status === status)
      .map(({ heardAgo, label }) => `${label} (heard ${span(heardAgo)} ago)`)
    return names.length === 0 ? [] : [`${status}: ${listOf(names, shownNames)}.`]
  }).join(" ")

// They stay, so that what is scrolled stays where it is.
const fleetTable = h("table", {})
const fleetPart = {
  title: h("h2", {}),
  notice: h("p", { class: "notice", id: "fleetNotice" }),
  unheard: h("p", { class: "quiet", id: "fleetUnheard" }),
  frame: h("div", { class: "fleet" }, fleetTable),
  more: h("p", { class: "quiet" })
}

/**
 * Draws it, and says in a line how it is.
 *
 * @param {HTMLElement} section
 * @param {string} filter
 * @param {(of: { pattern: string, instance: string }) => void} jump shows the card of an instance
 */
export const drawFleet = (section, filter, jump) => {
  if (about.fleet === null) {
    section.replaceChildren()
    return ""
  }
  const { count: all, problem, processes } = about.fleet
  const rows = rowsOf(processes)
  const heard = processes.filter(({ status }) => status !== "Gone")
  /** @param {Row} row */
  const textOf = ({ instance, pattern }) => `${instance} ${labelOf(pattern)} ${pattern}`.toLowerCase()
  const words = wordsOf(filter, rows.map(textOf), processes.map(({ label }) => label))
  const found = rows
    .filter((row) => words.rows.every((word) => textOf(row).includes(word)))
    .sort((a, b) =>
      b.level - a.level || isBase(b) - isBase(a) || byName(a.instance, b.instance) || byName(a.pattern, b.pattern)
    )
  const compared = heard.map((process) => ({
    ...process,
    process,
    levels: found.map(({ cells }) => cells.get(process)?.level ?? 0).sort((a, b) => b - a)
  }))
  const columns = columnsOf(compared, words.named, shownColumns)
  const text = titleOf(about.fleet, rows.filter(({ level }) => level >= 2).length)
  fleetPart.title.textContent = text
  fleetPart.notice.hidden = problem === null
  fleetPart.notice.textContent = problem ?? ""
  fleetPart.unheard.textContent = unheardOf(processes)
  fleetTable.replaceChildren(
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "instance"),
        h("th", { scope: "col" }, `in all ${count(heard.length)}`),
        ...columns.map(headOf)
      )
    ),
    h(
      "tbody",
      {},
      ...found.slice(0, shownRows).map((row) =>
        h(
          "tr",
          {},
          h(
            "th",
            { scope: "row" },
            h("button", { type: "button", class: "link", click: () => jump(row) }, row.instance),
            h("div", { class: "pattern" }, labelOf(row.pattern))
          ),
          h("td", { class: "all" }, ...allOf(row)),
          ...columns.map(({ process, status }) =>
            h("td", { class: status === "Live" ? "" : "notHeard" }, ...row.cells.get(process)?.content() ?? ["–"])
          )
        )
      )
    )
  )
  const aside = heard.length - columns.length
  fleetPart.more.textContent = [
    aside > 0 && `${some(aside, "more process has", "more processes have")} no column: filter for their names.`,
    all > processes.length && `${all - processes.length} more are too many to look at.`,
    found.length > shownRows && `${found.length - shownRows} more instances are not shown: filter for them.`
  ].filter(Boolean).join(" ")
  if (section.childElementCount === 0) section.append(...Object.values(fleetPart))
  return problem === null ? text : `${text}. ${problem}`
}
