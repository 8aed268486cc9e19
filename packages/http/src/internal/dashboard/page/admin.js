// @ts-check
/*
 * What an operator may do from here, where there is an admin that lets them: a form on each card, and what is overridden
 * with the time that is left. It asks for nothing but the admin of its own origin.
 */
import { h } from "./dom.js"
import { clock, span, words } from "./format.js"
import { about } from "./store.js"

/** @typedef {import("./judge.js").Instance} Instance */
/** @typedef {{ ok: boolean, status: number, data: any, problem: string }} Reply */

const access = {
  /** Whether there is an admin, and what it says to this page. @type {"unknown" | "none" | "closed" | "open"} */
  door: "unknown",
  /** Kept for as long as the page is. */
  token: ""
}

/** Whether the admin lets this page act. */
export const mayAct = () => access.door === "open"

/** @param {string} path */
const adminUrl = (path) => {
  const page = location.href.replace(/[?#].*$/, "").replace(/\/?$/, "/")
  const url = new URL(`${String(about.app.admin).replace(/\/$/, "")}/${path}`, page)
  if (url.origin !== location.origin) throw new Error("The admin is elsewhere.")
  return url
}

/** @param {string} path @param {object} [order] @returns {Promise<Reply>} */
const askAdmin = async (path, order) => {
  try {
    const response = await fetch(adminUrl(path), {
      method: order === undefined ? "GET" : "POST",
      headers: {
        ...(order === undefined ? {} : { "content-type": "application/json", "x-resilience-admin": "1" }),
        ...(access.token === "" ? {} : { authorization: `Bearer ${access.token}` })
      },
      cache: "no-store",
      redirect: "error",
      ...(order === undefined ? {} : { body: JSON.stringify(order) })
    })
    const text = await response.text()
    const data = text.startsWith("{") ? JSON.parse(text) : {}
    const { status } = response
    return { ok: response.ok, status, data, problem: String(data.detail ?? `The admin answered with ${status}.`) }
  } catch {
    return { ok: false, status: 0, data: {}, problem: "The admin cannot be reached." }
  }
}

/** Finds out whether this page may act. @param {() => void} then */
export const tryDoor = async (then) => {
  if (typeof about.app.admin !== "string") access.door = "none"
  else {
    const { ok, status } = await askAdmin("state")
    access.door = ok ? "open" : status === 401 || status === 403 ? "closed" : status === 0 ? "unknown" : "none"
  }
  then()
}

/** Asks for a token where the admin wants one. @param {() => void} then */
export const doorOf = (then) => {
  const token = h("input", {
    type: "password",
    autocomplete: "off",
    placeholder: "admin token",
    "aria-label": "Admin token"
  })
  return h(
    "form",
    {
      class: "tools",
      id: "door",
      hidden: "",
      submit: (/** @type {Event} */ event) => {
        event.preventDefault()
        access.token = token.value
        token.value = ""
        void tryDoor(then)
      }
    },
    token,
    h("button", {}, "Unlock actions")
  )
}

export const isDoorClosed = () => access.door === "closed"

/** Actions whose input is a number. */
const numbers = ["resize", "setLimit"]
/** What the other inputs are, for who has to type them. @type {Record<string, string>} */
const hints = {
  forceOpen: "30 seconds, or nothing",
  resize: "permits",
  setLimit: "limit",
  setRate: "100/minute",
  drain: "key, or nothing",
  reset: "key, or nothing"
}

/** @param {string} action @param {string} text */
const inputOf = (action, text) => text === "" ? {} : { input: numbers.includes(action) ? Number(text) : text }

/** @param {Reply} reply */
const outcomeOf = ({ data, ok, problem }) =>
  !ok ? problem : data.override ? `Done, until ${clock(Date.parse(data.override.until))}.` : "Done."

/** The form of a card. @param {Instance} instance */
export const actionsOf = ({ actions = [], instance, pattern }) => {
  const result = h("p", { class: "result", role: "status" })
  const action = h(
    "select",
    { "aria-label": "Action", change: () => hint() },
    ...actions.map((name) => h("option", { value: name }, words(name)))
  )
  const input = h("input", { "aria-label": "Input", autocomplete: "off" })
  const hint = () => input.setAttribute("placeholder", hints[action.value] ?? "input, or nothing")
  const reason = h("input", { "aria-label": "Reason", placeholder: "reason", required: "", maxlength: 500 })
  const minutes = h("input", { type: "number", min: 1, step: 1, value: 10, "aria-label": "For how many minutes" })
  const submit = h("button", {}, "Do it")
  const send = async () => {
    submit.disabled = true
    result.textContent = "…"
    const reply = await askAdmin("actions", {
      pattern,
      instance,
      action: action.value,
      ...inputOf(action.value, input.value.trim()),
      reason: reason.value,
      ttlSeconds: Number(minutes.value) * 60
    })
    submit.disabled = false
    // Each action has its own reason.
    if (reply.ok) input.value = reason.value = ""
    result.classList.toggle("lost", !reply.ok)
    result.textContent = outcomeOf(reply)
  }
  hint()
  return h(
    "details",
    { class: "act", hidden: "" },
    h("summary", {}, "Act"),
    h(
      "form",
      {
        submit: (/** @type {Event} */ event) => {
          event.preventDefault()
          void send()
        }
      },
      action,
      input,
      reason,
      h("label", {}, "for ", minutes, " minutes"),
      submit
    ),
    result
  )
}

/** @type {Map<string, { root: HTMLElement, left: HTMLElement, end: HTMLElement }>} */
const overrideRows = new Map()

/** @param {Record<string, any>} override */
const newRow = ({ action, actor, input, instance, pattern, reason, setting }) => {
  const left = h("span", { class: "quiet" })
  const result = h("span", { class: "lost" })
  const end = h("button", {
    type: "button",
    click: async () => {
      const reply = await askAdmin("returns", { pattern, instance, setting, reason: "ended from the dashboard" })
      result.textContent = reply.ok ? "" : reply.problem
    }
  }, "End now")
  const what = `${words(action)}${input === null || input === undefined ? "" : ` ${String(input)}`}`
  const root = h(
    "li",
    {},
    h("strong", {}, `${pattern} ${instance}`),
    ` ${what} by ${actor}: ${reason} `,
    left,
    " ",
    end,
    " ",
    result
  )
  return { root, left, end }
}

/** What is overridden. @param {Element} section @param {number} now */
export const drawOverrides = (section, now) => {
  const current = new Map(
    about.overrides.map((one) => [JSON.stringify([one.pattern, one.instance, one.setting, one.since]), one])
  )
  for (const key of overrideRows.keys()) if (!current.has(key)) overrideRows.delete(key)
  for (const [key, one] of current) {
    const row = overrideRows.get(key) ?? newRow(one)
    overrideRows.set(key, row)
    row.left.textContent = `${span(Math.max(0, one.until - now - about.ahead))} left`
    row.end.hidden = !mayAct()
  }
  const isSame = section.querySelectorAll("li").length === overrideRows.size &&
    [...overrideRows.values()].every(({ root }) => section.contains(root))
  if (isSame) return
  const rows = [...overrideRows.values()].map(({ root }) => root)
  section.replaceChildren(
    ...rows.length === 0 ? [] : [h("h2", {}, "Overridden"), h("ul", { class: "overrides" }, ...rows)]
  )
}
