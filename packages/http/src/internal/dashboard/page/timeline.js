// @ts-check
/*
 * The events, in words.
 */
import { labelOf } from "./cards.js"
import { h } from "./dom.js"
import { clock, some, span, words } from "./format.js"

/** @typedef {import("./store.js").Entry} Entry */

/** Why no other attempt was made; nothing where all were. @param {unknown} reason */
const whyNoMore = (reason) =>
  reason === "Attempts" ? "" : reason === "Budget" ? " (no budget left)" : ` (${words(reason)})`

/** @type {Record<string, (detail: Record<string, any>) => string>} */
const sentences = {
  StateChanged: ({ cause, from, lasted, to }) =>
    `${words(from)} → ${words(to)} (${lasted === undefined ? words(cause) : `after ${span(lasted)}`})`,
  CallRejected: ({ reason }) => `turned away: ${words(reason)}`,
  WouldHaveTripped: ({ cause }) => `would have opened: ${words(cause)}`,
  Reset: ({ actor }) => `reset${actor === undefined ? "" : ` by ${actor}`}`,
  RetryExhausted: ({ attempts, error, reason }) =>
    `gave up after ${some(attempts, "attempt")}${whyNoMore(reason)}: ${error}`,
  TimedOut: ({ limit }) => `timed out after ${span(limit)}`,
  Rejected: ({ reason }) => `turned away: ${words(reason)}`,
  Resized: ({ from, to }) => `resized from ${from} to ${to}`,
  LimitChanged: ({ from, reason, to }) => `limit ${from} → ${to}${reason === undefined ? "" : ` (${words(reason)})`}`,
  HighWaterReached: ({ pending }) => `high water reached, ${pending} pending`,
  LowWaterReached: ({ pending }) => `low water reached, ${pending} pending`,
  Shed: ({ priority, reason }) => `shed (${words(reason)}), priority ${priority}`,
  LevelChanged: ({ from, to }) => `load ${from} → ${to}`,
  Exceeded: () => "rate exceeded",
  FallbackUsed: ({ error }) => `fallback used: ${error}`,
  FallbackExhausted: ({ errors }) => `no fallback helped: ${[errors].flat().join(", ")}`,
  InternalError: ({ error, source }) =>
    source === "Store" ? `the store failed: ${error}` : `a helper failed (${words(source)}): ${error}`,
  OperatorAction: ({ action, actor, input, phase, reason, until }) =>
    `${actor}: ${words(action)}${input === undefined ? "" : ` ${input}`}, ${phase.toLowerCase()}` +
    `${typeof until === "number" ? ` until ${clock(until)}` : ""} — ${reason}`
}

/** @param {Entry} entry */
const textOf = ({ detail, tag }) => {
  const text = sentences[tag]?.(detail) ?? words(tag)
  return detail.key === undefined ? text : `${text} [${detail.key}]`
}

/**
 * The lines, newest first.
 *
 * @param {ReadonlyArray<Entry>} entries
 * @param {(entry: Entry) => void} jump
 */
export const lines = (entries, jump) =>
  entries.map((entry) =>
    h(
      "li",
      { class: entry.warning ? "warning" : "info" },
      h("time", { title: `since ${clock(entry.at)}` }, clock(entry.last)),
      h(
        "div",
        {},
        h(
          "button",
          { type: "button", class: "link", click: () => jump(entry), title: `Show ${entry.instance}` },
          entry.instance
        ),
        h(
          "span",
          { class: "pattern" },
          `${labelOf(entry.pattern)}${entry.process === undefined ? "" : ` of ${entry.process}`}`
        ),
        h(
          "p",
          {},
          textOf(entry),
          entry.count > 1 && h("span", { class: "count", title: `since ${clock(entry.at)}` }, `×${entry.count}`)
        )
      )
    )
  )

/** Hands the timeline to the reader as a file. @param {ReadonlyArray<Entry>} entries */
export const save = (entries) => {
  const href = URL.createObjectURL(new Blob([JSON.stringify(entries, null, 2)], { type: "application/json" }))
  h("a", { href, download: "resilience-events.json" }).click()
  setTimeout(() => URL.revokeObjectURL(href), 1000)
}
