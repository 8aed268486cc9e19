import type { Simulation } from "../../testing.js"
import type { Agenda, Entry } from "./agenda.js"
import type { SeededRandom } from "./random.js"

/** Work in a server. @internal */
export interface Job {
  /** Told once, with whether it failed, unless it was cancelled before. */
  readonly onDone: (failed: boolean) => void
  ending?: Entry | undefined
  place?: "waiting" | "running" | "done"
  cancelled?: boolean
}

/** @internal */
export interface Server {
  /** A request comes to the door. Where saying no costs, `decide` says what it cost. */
  readonly accept: (decide: () => boolean) => void
  readonly start: (job: Job) => void
  /** Nobody waits for it any more: it frees what it has, and `onDone` is not told. */
  readonly cancel: (job: Job) => void
  /** Mean wait of what ran since it was asked last. */
  readonly lag: () => number
}

const valueAt = (law: Simulation.Law | undefined, now: number, fallback: number): number =>
  law === undefined ? fallback : typeof law === "number" ? law : law(now)

/** Workers that take what waits in order, one at a time each. @internal */
export class Workers implements Server {
  private busy = 0
  private readonly line = new Line<{ readonly job: Job; readonly since: number }>()
  private waited = 0
  private started = 0

  constructor(
    private readonly options: Simulation.WorkersOptions,
    private readonly agenda: Agenda,
    private readonly random: SeededRandom
  ) {}

  accept(decide: () => boolean): void {
    decide()
  }

  start(job: Job): void {
    if (valueAt(this.options.down, this.agenda.now, 0) > 0) {
      this.agenda.after(0, () => job.onDone(true))
      return
    }
    if (this.busy < this.options.workers) return this.work(job, this.agenda.now)
    job.place = "waiting"
    this.line.push({ job, since: this.agenda.now })
  }

  cancel(job: Job): void {
    job.cancelled = true
    if (job.place === "waiting") this.line.lost++
    if (job.place !== "running") return
    if (job.ending !== undefined) this.agenda.cancel(job.ending)
    this.free(job)
  }

  lag(): number {
    const mean = this.started === 0 ? 0 : this.waited / this.started
    this.waited = this.started = 0
    return mean
  }

  private work(job: Job, since: number): void {
    const { agenda, options, random } = this
    this.busy++
    this.started++
    this.waited += agenda.now - since
    job.place = "running"
    const inFlight = this.busy + this.line.size
    const excess = Math.max(0, inFlight - options.workers)
    const work = options.service(random, { now: agenda.now, inFlight }) * valueAt(options.slowdown, agenda.now, 1) *
      (1 + (options.contention ?? 0) * excess)
    // Drawn now whether it is needed or not, so that a law of failures does not shift the work that is drawn.
    const draw = random.next()
    job.ending = agenda.at(finish(agenda.now, work, options.stalls ?? []), () => {
      const failed = draw < valueAt(options.failure, agenda.now, 0)
      const late = valueAt(options.delay, agenda.now, 0)
      // The way back does not hold a worker.
      if (late > 0) agenda.after(late, () => job.cancelled === true || job.onDone(failed))
      this.free(job)
      if (late === 0) job.onDone(failed)
    })
  }

  private free(job: Job): void {
    job.place = "done"
    this.busy--
    for (let next = this.line.shift(); next !== undefined; next = this.line.shift()) {
      if (next.job.cancelled === true) {
        this.line.lost--
        continue
      }
      this.work(next.job, next.since)
      return
    }
  }
}

/** When work is done that begins now, given the times in which nothing moves. */
const finish = (now: number, work: number, stalls: ReadonlyArray<Simulation.Span>): number => {
  let at = now
  let left = work
  for (const { from, to } of stalls) {
    if (to <= at) continue
    if (from > at + left) break
    left -= Math.max(0, from - at)
    at = to
  }
  return at + left
}

/** First in, first out. */
class Line<A> {
  private items: Array<A> = []
  private first = 0
  /** Of those that stand in it, how many were cancelled. */
  lost = 0

  get size(): number {
    return this.items.length - this.first - this.lost
  }

  push(item: A): void {
    this.items.push(item)
  }

  shift(): A | undefined {
    if (this.first === this.items.length) return undefined
    const item = this.items[this.first++]
    if (this.first > 1024 && this.first * 2 > this.items.length) {
      this.items = this.items.slice(this.first)
      this.first = 0
    }
    return item
  }
}

/** One thread that runs slices of work in turn, with input and output between; the door is a slice too. @internal */
export class EventLoop implements Server {
  private readonly line = new Line<{ readonly since: number; readonly run: () => number }>()
  private idle = true
  private waited = 0
  private ran = 0

  constructor(private readonly options: Simulation.EventLoopOptions, private readonly agenda: Agenda) {}

  accept(decide: () => boolean): void {
    this.push(() => decide() ? 0 : this.options.rejection)
  }

  start(job: Job): void {
    const slice = (left: number): void =>
      this.push(() => {
        if (job.cancelled === true) return 0
        this.agenda.after(this.options.cpu, () => {
          if (job.cancelled === true) return
          if (left === 1) job.onDone(false)
          else this.agenda.after(this.options.io, () => slice(left - 1))
        })
        return this.options.cpu
      })
    slice(this.options.slices)
  }

  cancel(job: Job): void {
    job.cancelled = true
  }

  lag(): number {
    const mean = this.ran === 0 ? 0 : this.waited / this.ran
    this.waited = this.ran = 0
    return mean
  }

  private push(run: () => number): void {
    this.line.push({ since: this.agenda.now, run })
    if (!this.idle) return
    this.idle = false
    this.turn()
  }

  private readonly turn = (): void => {
    const task = this.line.shift()
    if (task === undefined) {
      this.idle = true
      return
    }
    this.ran++
    this.waited += this.agenda.now - task.since
    this.agenda.after(task.run(), this.turn)
  }
}
