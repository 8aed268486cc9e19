import type { SharedCircuits } from "@effect-resilience/core"
import type { Common } from "./link.js"
import { Link, readMessage } from "./link.js"

/** Reports of one turn: a process with thousands of keyed circuits tells of some now, and of the others next. */
const reportsOfOneTurn = 500

/** The shortest bucket of the votes, in milliseconds, and how many a window has. */
const shortestBucket = 1000
const bucketsOfWindow = 10

const escape = (text: string, signs: RegExp): string => text.replace(signs, encodeURIComponent)

const nameOf = ({ instance, key }: SharedCircuits.Circuit): string =>
  key === undefined ? escape(instance, /[%:]/g) : `${escape(instance, /[%:]/g)}:${key}`

/**
 * The keys that the scripts take. Braces in the name would end the tag that holds them together; votes in buckets of
 * another length have a place of their own.
 *
 * @internal
 */
export const keysOf = (prefix: string, name: string, bucket: number): ReadonlyArray<string> => {
  const base = `${prefix}{${escape(name, /[%{}]/g)}}`
  return ["s", `w${bucket}`, "i", "f", "t", "p"].map((part) => `${base}:${part}`)
}

/**
 * All circuits of one layer: one subscription and one timer between them.
 *
 * @internal
 */
export class Fleet implements SharedCircuits.Service {
  private readonly links = new Map<string, Set<Link>>()
  private readonly common: Common
  /** Who is looked at next, so that all have their turn. */
  private turn = this.all()

  constructor(
    private readonly prefix: string,
    private readonly isShared: (instance: string) => boolean,
    common: Omit<Common, "left">
  ) {
    this.common = {
      ...common,
      left: (link) => {
        const links = this.links.get(link.name)
        links?.delete(link)
        if (links?.size === 0) this.links.delete(link.name)
      }
    }
  }

  readonly join = (circuit: SharedCircuits.Circuit): Link | undefined => {
    if (!this.isShared(circuit.instance)) return undefined
    const name = nameOf(circuit)
    const bucket = Math.max(shortestBucket, Math.ceil(circuit.settings.window / bucketsOfWindow))
    const link = new Link(name, circuit, keysOf(this.prefix, name, bucket), bucket, this.common)
    const links = this.links.get(name) ?? new Set()
    this.links.set(name, links.add(link))
    link.report()
    return link
  }

  /** Tells what is to be told and asks what is to be asked, of so many circuits at most. */
  readonly flush = (): void => {
    let left = reportsOfOneTurn
    for (let looked = 0, all = this.size; looked < all && left > 0; looked++) {
      let next = this.turn.next()
      if (next.done === true) {
        this.turn = this.all()
        next = this.turn.next()
      }
      if (next.done === true) return
      if (!next.value.due) continue
      left--
      next.value.report()
    }
  }

  readonly onMessage = (message: string): void => {
    const heard = readMessage(message)
    if (heard === undefined) return
    for (const link of this.links.get(heard.name) ?? []) link.hint(heard)
  }

  /** Messages were lost. */
  readonly onGap = (): void => {
    for (const links of this.links.values()) for (const link of links) link.stale = true
    this.flush()
  }

  private get size(): number {
    let size = 0
    for (const links of this.links.values()) size += links.size
    return size
  }

  private *all(): IterableIterator<Link> {
    for (const links of this.links.values()) yield* links
  }
}
