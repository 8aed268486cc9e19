import { ResilienceEvent } from "@effect-resilience/core"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import type { RedisEventStream } from "../../RedisEventStream.js"

/*
 * An entry of the stream: one event. `n` numbers the entries of the stream, so that a reader sees what is missing; `p` and
 * `l` are the process and its label, `v` the version of this form, and `e` the event as JSON.
 */

/** Of the form of an entry and of the schema of events. @internal */
export const version = "1"

const encode = Schema.encodeSync(ResilienceEvent)
const decode = Schema.decodeUnknownEither(Schema.parseJson(ResilienceEvent))

/** An error's message has no bound, an entry has one. @internal */
export const longestEvent = 16_384

/** Throws where the event holds what is no JSON, or too much of it. @internal */
export const encodeEvent = (event: ResilienceEvent): string => {
  const text = JSON.stringify(encode(event))
  if (text.length > longestEvent) throw new Error(`the event has ${text.length} characters, more than ${longestEvent}`)
  return text
}

/** As it is read. @internal */
export interface Entry {
  readonly id: string
  /** Absent where somebody else put it there. */
  readonly n: number | undefined
  readonly fields: ReadonlyMap<string, string>
}

const isList = (value: unknown): value is ReadonlyArray<unknown> => Array.isArray(value)

/** The entries of a reply of `XRANGE`. @internal */
export const entriesOf = (reply: unknown): ReadonlyArray<Entry> =>
  (isList(reply) ? reply : []).flatMap((one) => {
    if (!isList(one)) return []
    const [id, flat] = one
    const texts = isList(flat) ? flat.map(String) : []
    const fields = new Map<string, string>()
    for (let i = 0; i + 1 < texts.length; i += 2) fields.set(texts[i] ?? "", texts[i + 1] ?? "")
    const n = Number(fields.get("n"))
    return [{ id: String(id), n: Number.isSafeInteger(n) ? n : undefined, fields }]
  })

/** The entries of a reply of `XREAD` for one stream: a list of streams, or by the newer protocol a map. @internal */
export const entriesRead = (reply: unknown): ReadonlyArray<Entry> => {
  if (reply instanceof Map) return entriesOf([...reply.values()][0])
  if (!isList(reply)) {
    return typeof reply === "object" && reply !== null ? entriesOf(Object.values(reply)[0]) : []
  }
  const [first, second] = reply
  return entriesOf(isList(first) ? first[1] : second)
}

/** @internal */
export const elementOf = ({ fields, id }: Entry): RedisEventStream.Event | RedisEventStream.Undecoded => {
  const text = fields.get("e")
  const from = { id, process: fields.get("p") ?? "unknown", label: fields.get("l") ?? "unknown" }
  const decoded = fields.get("v") === version && text !== undefined ? decode(text) : undefined
  return decoded !== undefined && Either.isRight(decoded)
    ? { _tag: "Event", ...from, event: decoded.right }
    : { _tag: "Undecoded", ...from, version: fields.get("v"), text: text ?? JSON.stringify([...fields]) }
}

/** Where a reader stands: the entry that it had last, and its number where that is known. @internal */
export interface Position {
  readonly id: string
  readonly n: number | undefined
}

/** Before the first entry. @internal */
export const beginning: Position = { id: "0-0", n: undefined }

/**
 * What entries mean for a reader that stands there: a number that does not follow on the last is a gap. One that is lower
 * belongs to a stream that began anew.
 *
 * @internal
 */
export const advance = (
  position: Position,
  entries: ReadonlyArray<Entry>
): readonly [ReadonlyArray<RedisEventStream.Element>, Position] => {
  let { id, n } = position
  const elements: Array<RedisEventStream.Element> = []
  for (const entry of entries) {
    if (entry.n !== undefined) {
      if (n !== undefined && entry.n !== n + 1) {
        elements.push({
          _tag: "Gap",
          after: id,
          before: entry.id,
          lost: entry.n > n ? entry.n - n - 1 : undefined
        })
      }
      n = entry.n
    }
    id = entry.id
    elements.push(elementOf(entry))
  }
  return [elements, { id, n }]
}

const idPattern = /^(\d{1,20})(?:-(\d{1,20}))?$/

/** @internal */
export const isId = (id: string): boolean => idPattern.test(id)

/** Whether an entry comes before another. @internal */
export const isBefore = (one: string, other: string): boolean => {
  const [, time = "0", count = "0"] = idPattern.exec(one) ?? []
  const [, otherTime = "0", otherCount = "0"] = idPattern.exec(other) ?? []
  return BigInt(time) === BigInt(otherTime) ? BigInt(count) < BigInt(otherCount) : BigInt(time) < BigInt(otherTime)
}
