// @ts-check
/*
 * What stands around the cards: how things are on the whole, where calls end, and what the figures advise.
 */
import { labelOf } from "./cards.js"
import { bar, h } from "./dom.js"
import { percent, rate, span } from "./format.js"
import { advise, chains, judge, summary } from "./judge.js"
import { about, instances } from "./store.js"

/** @typedef {import("./judge.js").Instance} Instance */

/** How things stand: what is on top of the page. @param {Record<string, any>} part */
export const drawHealth = (part) => {
  const { figures, level, text } = summary([...instances.values()], about.system)
  part.health.className = `health level${level}`
  if (part.sentence.textContent !== text) part.sentence.textContent = text
  part.figures.textContent = figures
  const { instance, since, title, version } = about.app
  part.title.textContent = title ?? "Resilience"
  document.title = level >= 2 ? `(!) ${title}` : title ?? "Resilience"
  part.app.textContent = [version, instance, `up for ${span(Date.now() + about.ahead - since)}`].filter(Boolean).join(
    " · "
  )
  const { cpu, eventLoopDelay, eventLoopUtilization, memory } = about.system ?? {}
  /** @param {number} value */
  const levelOf = (value) => value >= 0.9 ? 3 : value >= 0.75 ? 2 : 0
  const parts = [["CPU", cpu], ["memory", memory], ["event loop in use", eventLoopUtilization]]
  part.system.replaceChildren(
    ...parts.filter(([, value]) => typeof value === "number")
      .map(([name, value]) => bar(name, percent(value), value, { level: levelOf(value) })),
    ...typeof eventLoopDelay === "number"
      ? [
        bar("event loop late by", span(eventLoopDelay), eventLoopDelay / 100, { level: levelOf(eventLoopDelay / 100) })
      ]
      : []
  )
  const { duplicates, hint, unregistered } = about.notes
  const notes = [
    unregistered > 0 && `${unregistered} more instances are not registered, and cannot be shown. ${hint}`,
    duplicates.length > 0 &&
    `Two live instances share a name: ${
      duplicates.map((/** @type {any} */ one) => `${one.pattern} ${one.instance}`).join(", ")
    }.`
  ].filter(Boolean)
  part.notice.hidden = notes.length === 0
  part.notice.textContent = notes.join(" ")
}

/** Where calls end. @param {HTMLElement} section @param {string} filter */
export const drawChains = (section, filter) => {
  const found = chains([...instances.values()]).filter(({ name }) => name.toLowerCase().includes(filter.toLowerCase()))
  section.replaceChildren(
    ...found.length === 0 ? [] : [h("h2", {}, "Where calls end")],
    ...found.slice(0, 20).map(({ name, steps }) =>
      h(
        "div",
        { class: "chain" },
        h("h3", {}, name),
        h(
          "ol",
          {},
          ...steps.map((step) =>
            h(
              "li",
              { class: `level${judge(step).level}` },
              h("strong", {}, `${labelOf(step.pattern)}${step.instance === name ? "" : " of an attempt"}`),
              h("span", {}, `${rate(step.flow.offered)} in`),
              h("span", { class: step.flow.rejected > 0 ? "lost" : "quiet" }, `${rate(step.flow.rejected)} turned away`)
            )
          )
        )
      )
    )
  )
}

/** @param {HTMLElement} section @param {(of: Instance) => void} jump shows the card of an instance */
export const drawAdvice = (section, jump) => {
  const found = [...instances.values()].map((instance) => ({ instance, text: advise(instance) }))
    .filter(({ text }) => text !== undefined)
  section.replaceChildren(
    ...found.length === 0 ? [] : [
      h("h2", {}, "Advice"),
      h(
        "ul",
        { class: "advice" },
        ...found.slice(0, 10).map(({ instance, text }) =>
          h(
            "li",
            {},
            h("button", { type: "button", class: "link", click: () => jump(instance) }, instance.instance),
            h("span", { class: "pattern" }, labelOf(instance.pattern)),
            h("p", {}, text)
          )
        )
      )
    ]
  )
}
