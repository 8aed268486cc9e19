// @ts-check
/*
 * What the processes of a fleet say, side by side: who differs, and who needs somebody first. Pure functions.
 */
import { byName } from "./format.js"

/**
 * How one process judges one instance.
 *
 * @typedef {{ label: string, level: number, state: string }} Said
 * @typedef {{ state: string, level: number, labels: ReadonlyArray<string> }} Group
 */

/** Of a state that says a number, what it is without it. @param {string} state */
const kindOf = (state) => state.replace(/^[\d,.]+ (k |M )?keys?/, "keys")

/** Who says the same, the worst first, and of what is equally bad what fewer say. @param {ReadonlyArray<Said>} all @returns {ReadonlyArray<Group>} */
export const groupsOf = (all) => {
  /** @type {Map<string, { state: string, level: number, labels: Array<string> }>} */
  const groups = new Map()
  for (const { label, level, state } of all) {
    const kind = kindOf(state)
    const group = groups.get(kind) ?? { state: kind, level, labels: [] }
    groups.set(kind, group)
    group.level = Math.max(group.level, level)
    group.labels.push(label)
  }
  return [...groups.values()].sort((a, b) => b.level - a.level || a.labels.length - b.labels.length)
}

/** As many names as are read at a glance. */
const mostNames = 3

/**
 * Who they are, where it is a few of many.
 *
 * @param {Group} group
 * @param {number} all how many were asked
 */
export const namesOf = ({ labels }, all) =>
  labels.length < all && labels.length <= mostNames ? labels.join(", ") : undefined

/** Some names, and how many more there are. @param {ReadonlyArray<string>} names @param {number} most */
export const listOf = (names, most) =>
  names.length <= most ? names.join(", ") : `${names.slice(0, most).join(", ")} and ${names.length - most} more`

/**
 * A process as the comparison has it: how bad its instances are, the worst of them first.
 *
 * @typedef {{ id: string, label: string, status: string, levels: ReadonlyArray<number> }} Compared
 */

/** The first difference, the higher first. @param {ReadonlyArray<number>} a @param {ReadonlyArray<number>} b */
const worse = (a, b) => {
  const at = a.findIndex((level, i) => level !== b[i])
  return at === -1 ? 0 : (b[at] ?? 0) - (a[at] ?? 0)
}

/**
 * The processes that have a column: this one, which is the first, then those that are named, then the worst.
 *
 * @template {Compared} P
 * @param {ReadonlyArray<P>} processes
 * @param {ReadonlyArray<string>} words
 * @param {number} most
 * @returns {ReadonlyArray<P>}
 */
export const columnsOf = (processes, words, most) => {
  const [own, ...others] = processes
  if (own === undefined) return []
  /** @param {P} process */
  const isNamed = ({ label }) => words.some((word) => label.toLowerCase().includes(word))
  return [
    own,
    ...others.sort((a, b) =>
      Number(isNamed(b)) - Number(isNamed(a)) ||
      Number(b.status === "Late") - Number(a.status === "Late") ||
      worse(a.levels, b.levels) || byName(a.label, b.label)
    ).slice(0, most - 1)
  ]
}

/**
 * Words that no row has name a process; all others are about rows.
 *
 * @param {string} filter
 * @param {ReadonlyArray<string>} rows what each row can be found by, in small letters
 * @param {ReadonlyArray<string>} labels of processes
 */
export const wordsOf = (filter, rows, labels) => {
  const words = filter.toLowerCase().split(/\s+/).filter((word) => word !== "")
  const named = words.filter((word) =>
    !rows.some((text) => text.includes(word)) && labels.some((label) => label.toLowerCase().includes(word))
  )
  return { named, rows: words.filter((word) => !named.includes(word)) }
}
