import type { Registry } from "@effect-resilience/core"
import type { Entry, Watch } from "./watch.js"
import { idOf } from "./watch.js"
import type { Json } from "./wire.js"
import { toWire } from "./wire.js"

/** What a page is told at one moment, as server-sent event. @internal */
export interface Frame {
  readonly seq: number
  readonly text: string
}

/** What is sampled beside the instances. @internal */
export interface Surroundings {
  readonly system: Json
  readonly overrides: Json
  /** `null` where there is none. */
  readonly fleet: Json
}

interface Known {
  readonly wire: Json
  /** What the next sample is compared with: all but the times that pass. */
  readonly key: string
  /** The instants that these times count from or to. */
  readonly instants: ReadonlyArray<number>
}

/** Frames that are kept for a page that comes back. */
const keptFrames = 20

const eventText = (id: string, event: string, data: Json): string =>
  `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`

/** Comes after a silence: it also tells the page that the connection stands. @internal */
export const beatText = ": still here\nevent: beat\ndata: {}\n\n"

/** Metrics that change by themselves, and in which direction. */
const timesThatPass = new Map([
  ["sinceStateChange", -1],
  ["sinceLastFailure", -1],
  ["downFor", -1],
  ["openFor", 1],
  ["heardAgo", -1]
])
/** Nothing is measured that exactly. */
const tolerance = 1000

const knownOf = (wire: Json, at: number): Known => {
  const instants: Array<number> = []
  const key = JSON.stringify(wire, (name, value) => {
    const direction = timesThatPass.get(name)
    if (direction === undefined || typeof value !== "number") return value
    instants.push(at + direction * value)
    return "passes"
  })
  return { wire, key, instants }
}

const isSame = (one: Known | undefined, other: Known): boolean =>
  one?.key === other.key && one.instants.every((at, i) => Math.abs(at - (other.instants[i] ?? at)) < tolerance)

const entryWire = (entry: Entry): Json => ({ ...entry })

/**
 * What the pages were told last. Each sample becomes a frame with what is new in it; a page that missed one gets all.
 *
 * @internal
 */
export class Model {
  private seq = 0
  private at = 0
  private readonly frames: Array<Frame> = []
  private readonly known = new Map<string, Known>()
  private readonly rest = new Map<string, Known>()
  private whole: Frame | undefined

  constructor(
    /** Tells this process, and this model in it, from others. */
    private readonly run: string,
    private readonly app: Json,
    private readonly watch: Watch
  ) {}

  /** Takes a sample in, and tells what is new in it. */
  advance(at: number, snapshot: Registry.Snapshot, around: Surroundings): Frame | undefined {
    const { duplicates, hint, instances, unregistered } = snapshot
    this.at = at
    this.whole = undefined
    const current = new Map<string, Json>()
    for (const snapshot of instances) {
      const { actions, instance, metrics, pattern, settings } = snapshot
      this.watch.look(at, snapshot)
      const id = idOf(pattern, instance)
      // Twins of one name share no state: each has its card.
      const own = current.has(id) ? `${id} (another)` : id
      current.set(own, {
        id: own,
        pattern,
        instance,
        actions,
        metrics: toWire(metrics),
        settings: toWire(settings),
        recent: this.watch.recentOf(id)
      })
    }
    this.watch.keepOnly(new Set(current.keys()))
    const changed = [...current].flatMap(([id, wire]) => this.note(this.known, id, wire) ? [wire] : [])
    const removed = [...this.known.keys()].filter((id) => !current.has(id))
    for (const id of removed) this.known.delete(id)

    const rest = { ...around, notes: { unregistered, hint: hint ?? null, duplicates: toWire(duplicates) } }
    const news = Object.entries(rest).filter(([name, wire]) => this.note(this.rest, name, wire))
    const timeline = this.watch.takeNews().map(entryWire)
    if (changed.length + removed.length + news.length + timeline.length === 0) return undefined
    const id = `${this.run}-${++this.seq}`
    const frame = {
      seq: this.seq,
      text: eventText(id, "update", { at, changed, removed, timeline, ...Object.fromEntries(news) })
    }
    this.frames.push(frame)
    if (this.frames.length > keptFrames) this.frames.shift()
    return frame
  }

  private note(among: Map<string, Known>, id: string, wire: Json): boolean {
    const known = among.get(id)
    const now = knownOf(wire, this.at)
    const isNews = !isSame(known, now)
    // A page that comes later is told the times as they stand.
    among.set(id, isNews || known === undefined ? now : { ...known, wire })
    return isNews
  }

  /** All there is, for a page that comes or has missed something. */
  get snapshot(): Frame {
    return this.whole ??= {
      seq: this.seq,
      text: eventText(`${this.run}-${this.seq}`, "snapshot", {
        app: this.app,
        at: this.at,
        instances: [...this.known.values()].map(({ wire }) => wire),
        timeline: this.watch.timeline.map(entryWire),
        ...Object.fromEntries([...this.rest].map(([name, { wire }]) => [name, wire]))
      })
    }
  }

  /** What came after the frame that a page had last, or nothing where that is not known any more. */
  since(lastEventId: string | undefined): ReadonlyArray<Frame> | undefined {
    const [, run, seq] = /^(.+)-(\d+)$/.exec(lastEventId ?? "") ?? []
    const last = Number(seq)
    const isKnown = run === this.run && last <= this.seq && last + 1 >= (this.frames[0]?.seq ?? this.seq + 1)
    return isKnown ? this.frames.filter((frame) => frame.seq > last) : undefined
  }
}
