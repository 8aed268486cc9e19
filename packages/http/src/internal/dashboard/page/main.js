// @ts-check
/*
 * The page: its frame, what is drawn each second, the connection, the keys.
 */
import { actionsOf, doorOf, drawOverrides, isDoorClosed, mayAct, tryDoor } from "./admin.js"
import { bodyOf, flowOf, labelOf } from "./cards.js"
import { h, spark } from "./dom.js"
import { drawFleet, sampleFleet } from "./fleet.js"
import { byName, clock } from "./format.js"
import { isBase, judge } from "./judge.js"
import { drawAdvice, drawChains, drawHealth } from "./sections.js"
import { about, instances, seriesOf, takeSample, takeSnapshot, takeUpdate, timeline } from "./store.js"
import { lines, save } from "./timeline.js"

/** @typedef {import("./judge.js").Instance} Instance */

/** More are found by the filter. */
const shownCards = 120
const shownLines = 100

/** How the page is looked at. */
const view = {
  filter: "",
  minutes: 1,
  warnings: false,
  paused: false,
  connection: "connecting",
  heard: performance.now()
}

const part = {
  title: h("h1", {}, "Resilience"),
  app: h("p", { class: "app" }),
  connection: h("span", { class: "pill", id: "connection", role: "status" }),
  pause: h("button", { type: "button", click: () => setPaused(!view.paused) }),
  health: h("section", { class: "health", id: "health", "aria-label": "Health" }),
  sentence: h("p", { class: "sentence", "aria-live": "polite" }, "Connecting…"),
  figures: h("p", { class: "figures" }),
  fleetLine: h("button", { type: "button", class: "link", hidden: "", click: () => part.fleet.scrollIntoView() }),
  system: h("div", { class: "system" }),
  notice: h("p", { class: "notice", id: "notice", hidden: "" }),
  filter: h("input", {
    type: "search",
    placeholder: "name, pattern or state",
    "aria-label": "Filter",
    "aria-keyshortcuts": "/",
    input: () => setFilter(part.filter.value)
  }),
  range: h(
    "select",
    { "aria-label": "Time range of the graphs", change: () => setMinutes(Number(part.range.value)) },
    h("option", { value: 1 }, "last minute"),
    h("option", { value: 5 }, "last 5 minutes"),
    h("option", { value: 15 }, "last 15 minutes")
  ),
  cards: h("div", { class: "cards", id: "cards" }),
  more: h("p", { class: "quiet" }),
  fleet: h("section", { "aria-label": "Fleet", id: "fleet" }),
  chains: h("section", { "aria-label": "Chains" }),
  door: doorOf(() => draw()),
  overrides: h("section", { "aria-label": "Overrides", id: "overrides" }),
  advice: h("section", { "aria-label": "Advice", id: "advice" }),
  warnings: h("input", { type: "checkbox", change: () => setWarnings(part.warnings.checked) }),
  lines: h("ol", { class: "lines", id: "timeline" })
}

const frame = () => {
  part.health.append(part.sentence, part.figures, part.fleetLine, part.system)
  const root = document.getElementById("app")
  root?.append(
    h(
      "header",
      {},
      h("div", {}, part.title, part.app),
      h("div", { class: "tools" }, part.door, part.connection, part.pause)
    ),
    part.health,
    part.notice,
    h(
      "div",
      { class: "columns" },
      h(
        "main",
        {},
        h("div", { class: "toolbar" }, h("h2", {}, "Instances"), part.filter, part.range),
        part.cards,
        part.more,
        part.fleet,
        part.chains
      ),
      h(
        "aside",
        {},
        part.overrides,
        part.advice,
        h(
          "section",
          { "aria-label": "Events" },
          h(
            "div",
            { class: "toolbar" },
            h("h2", {}, "Events"),
            h("label", {}, part.warnings, " warnings only"),
            h("button", { type: "button", click: () => save([...timeline.values()]) }, "Save")
          ),
          part.lines
        )
      )
    ),
    h(
      "footer",
      {},
      h("kbd", {}, "/"),
      " filter ",
      h("kbd", {}, "p"),
      " pause ",
      h("kbd", {}, "Esc"),
      " clear · worst first · cards are of this process only"
    )
  )
}

// Cards

/**
 * @typedef {{ root: HTMLElement, name: HTMLElement, state: HTMLElement, flag: HTMLElement, body: HTMLElement,
 *   act: HTMLElement, spark: HTMLElement, flow: HTMLElement }} Card
 * @type {Map<string, Card>}
 */
const cards = new Map()

/** @param {Instance} of @returns {Card} */
const newCard = (of) => {
  const { id, instance, pattern } = of
  const card = {
    name: h("h3", {}, instance),
    state: h("span", { class: "pill" }),
    flag: h("p", { class: "flag", hidden: "" }),
    body: h("div", { class: "body" }),
    act: actionsOf(of),
    spark: h("div", {}),
    flow: h("span", {})
  }
  const root = h(
    "article",
    { class: "card", tabindex: 0, "aria-label": `${labelOf(pattern)} ${instance}`, "data-id": id },
    h("div", { class: "head" }, h("div", {}, card.name, h("span", { class: "pattern" }, labelOf(pattern))), card.state),
    card.flag,
    card.body,
    card.act,
    h("div", { class: "foot" }, card.spark, card.flow)
  )
  const made = { root, ...card }
  cards.set(id, made)
  return made
}

/** @param {Instance} instance */
const overrideOf = ({ instance, pattern }) =>
  about.overrides.find((one) => one.pattern === pattern && one.instance === instance)

/** @param {Instance & { told: number }} instance @param {number} now */
const drawCard = (instance, now) => {
  const card = cards.get(instance.id) ?? newCard(instance)
  const { level, state } = judge(instance)
  const override = overrideOf(instance)
  card.root.className = `card level${level}`
  card.state.className = `pill level${level}`
  card.state.textContent = state
  card.act.hidden = !mayAct() || (instance.actions ?? []).length === 0
  card.flag.hidden = override === undefined
  card.flag.textContent = override === undefined
    ? ""
    : `Overridden until ${clock(override.until)} by ${override.actor}: ${override.reason}`
  card.body.replaceChildren(.../** @type {Array<Node>} */ (bodyOf(instance, now - instance.told).filter(Boolean)))
  const { calls, rejected } = seriesOf(instance.id, view.minutes)
  card.flow.replaceChildren(...flowOf(instance))
  card.spark.replaceChildren(spark(calls, rejected, `Calls and rejections: ${card.flow.textContent}`))
  return card.root
}

/** @param {Instance} instance */
const matches = (instance) => {
  const text = `${instance.instance} ${labelOf(instance.pattern)} ${instance.pattern} ${judge(instance).state}`
    .toLowerCase()
  return view.filter.toLowerCase().split(/\s+/).every((word) => text.includes(word))
}

/** @param {number} now */
const drawCards = (now) => {
  const found = [...instances.values()].filter(matches).map((instance) => ({ instance, level: judge(instance).level }))
    .sort((a, b) =>
      b.level - a.level || isBase(b.instance) - isBase(a.instance) || byName(a.instance.id, b.instance.id)
    )
  const shown = found.slice(0, shownCards)
  const nodes = shown.map(({ instance }) => drawCard(instance, now))
  const isSame = nodes.length === part.cards.children.length &&
    nodes.every((node, i) => part.cards.children[i] === node)
  // Nothing moves away under a hand or a focus.
  const isHeld = part.cards.matches(":hover") || part.cards.contains(document.activeElement)
  const isKnown = nodes.every((node) => part.cards.contains(node)) && nodes.length === part.cards.children.length
  if (!isSame && !(isHeld && isKnown)) part.cards.replaceChildren(...nodes)
  part.more.textContent = found.length > shown.length
    ? `${found.length - shown.length} more are not shown: filter for them.`
    : found.length === 0
    ? instances.size === 0 ? "No instance is registered yet." : "No instance fits the filter."
    : ""
  for (const id of cards.keys()) if (!instances.has(id)) cards.delete(id)
}

// The rest

const drawTimeline = () => {
  const entries = [...timeline.values()].filter(({ warning }) => warning || !view.warnings)
    .sort((a, b) => b.last - a.last || b.n - a.n).slice(0, shownLines)
  // A line that somebody is about to press stays where it is.
  if (part.lines.matches(":hover") || part.lines.contains(document.activeElement)) return
  part.lines.replaceChildren(
    ...entries.length === 0
      ? [
        h("li", { class: "quiet" }, `Nothing has happened ${about.app.history ? "yet" : "since this page was opened"}.`)
      ]
      : lines(entries, jump)
  )
}

const drawConnection = () => {
  const { connection, paused } = view
  part.connection.className = `pill ${connection === "live" ? paused ? "level1" : "live" : "level2"}`
  part.connection.textContent = connection === "live" ? paused ? "paused" : "live" : connection
  part.door.hidden = !isDoorClosed()
  part.pause.textContent = paused ? "Resume" : "Pause"
}

const draw = () => {
  drawConnection()
  if (view.paused || !about.told) return
  drawHealth(part)
  drawCards(Date.now())
  part.fleetLine.textContent = drawFleet(part.fleet, view.filter, jump)
  part.fleetLine.hidden = part.fleetLine.textContent === ""
  drawChains(part.chains, view.filter)
  drawOverrides(part.overrides, Date.now())
  drawAdvice(part.advice, jump)
  drawTimeline()
}

/** Shows the card of an instance. @param {{ pattern: string, instance: string }} which */
const jump = ({ instance, pattern }) => {
  setFilter("")
  part.filter.value = ""
  draw()
  const card = cards.get(`${pattern}/${instance}`)
  card?.root.scrollIntoView({ block: "center", behavior: "auto" })
  card?.root.focus()
}

/** @param {string} text */
const setFilter = (text) => {
  view.filter = text
  draw()
}
/** @param {number} minutes */
const setMinutes = (minutes) => {
  view.minutes = minutes
  draw()
}
/** @param {boolean} only */
const setWarnings = (only) => {
  view.warnings = only
  draw()
}
/** @param {boolean} paused */
const setPaused = (paused) => {
  view.paused = paused
  draw()
}

// Connection

/** The server says something at least every 15 s. */
const longestSilence = 40_000
const retryAfter = 5000
/** @type {EventSource | undefined} */
let source

/** @param {string} connection */
const setConnection = (connection) => {
  view.connection = connection
  draw()
}

const connect = () => {
  source?.close()
  const { pathname } = location
  const events = new EventSource(`${pathname.endsWith("/") ? pathname : `${pathname}/`}events`)
  source = events
  view.heard = performance.now()
  /** @param {string} name @param {(data: any) => void} take */
  const on = (name, take) =>
    events.addEventListener(name, (event) => {
      view.heard = performance.now()
      take(JSON.parse(event.data))
      if (view.connection !== "live") setConnection("live")
    })
  on("snapshot", (news) => {
    takeSnapshot(news, Date.now())
    draw()
    if (!mayAct()) void tryDoor(draw)
  })
  on("update", (news) => takeUpdate(news, Date.now()))
  on("beat", () => {})
  events.addEventListener("error", () => {
    if (source !== events) return
    const isOver = events.readyState === EventSource.CLOSED
    setConnection(isOver ? "no connection, or too many viewers" : "reconnecting")
    if (isOver) setTimeout(() => source === events && !document.hidden && connect(), retryAfter)
  })
}

// Who does not look takes no place from others.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return connect()
  source?.close()
  source = undefined
})

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const isTyping = event.target instanceof Element && event.target.matches("input, select")
  if (event.key === "Escape" && event.target === part.filter) {
    part.filter.value = ""
    part.filter.blur()
    setFilter("")
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault()
    part.filter.focus()
  } else if (event.key === "p" && !isTyping) setPaused(!view.paused)
})

setInterval(() => {
  takeSample()
  sampleFleet()
  if (source !== undefined && performance.now() - view.heard > longestSilence) connect()
  draw()
}, 1000)

frame()
draw()
if (!document.hidden) connect()
