/** Callers that ask without pause, as many as are wanted, and what they got. */
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"

const schedstat = "/proc/thread-self/schedstat"
/** Microseconds of this thread on a core, where the system tells them; else of the process. */
const cpu = existsSync(schedstat)
  ? () => Number(readFileSync(schedstat, "utf8").split(" ")[0]) / 1000
  : () => process.cpuUsage().user + process.cpuUsage().system

/** One decision for one of the keys: whether it was allowed. */
export type Decide =
  | { readonly _tag: "Promise"; readonly ask: (key: number) => Promise<boolean> }
  | { readonly _tag: "Effect"; readonly ask: (key: number) => Effect.Effect<boolean, unknown> }

export interface Load {
  readonly callers: number
  readonly keys: number
  readonly millis: number
}

export interface Yield<A> {
  readonly before: A
  readonly after: A
  /** Decisions between the two. */
  readonly snapped: number
  readonly decisions: number
  readonly denied: number
  readonly seconds: number
  /** Microseconds of processor time of this process for each decision. */
  readonly client: number
  /** Milliseconds of single decisions: a part of all. */
  readonly latencies: ReadonlyArray<number>
}

/** A decision in so many is timed, for the clock is as dear as a local answer. */
const timedEvery = 16

/**
 * A caller lets the event loop turn after so many decisions: in a service calls come with its turns, and what is decided in
 * this process alone would let nothing else run.
 */
const turnEvery = 64

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const turnEffect = Effect.async<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Numbers below 2 ** 16, of a generator that begins anew with each run of the bench (a linear congruential one). */
const drawn = new Uint16Array(1 << 16)
for (let i = 0, state = 1; i < drawn.length; i++) {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  drawn[i] = state >>> 16
}

class Run {
  stopped = false
  decisions = 0
  denied = 0
  latencies: Array<number> = []

  constructor(private readonly load: Load) {}

  begin(): void {
    this.decisions = 0
    this.denied = 0
    this.latencies = []
  }

  /**
   * Drawn at random. If all callers took the keys in the same order, one that waits for a key would be met there by all that
   * come after it: they would move from key to key as one crowd.
   */
  key(caller: number, i: number): number {
    return (drawn[(caller * 7919 + i) % drawn.length] ?? 0) % this.load.keys
  }

  settle(i: number, allowed: boolean, since: number): void {
    this.decisions++
    if (!allowed) this.denied++
    if (i % timedEvery === 0) this.latencies.push(performance.now() - since)
  }

  async promises(ask: (key: number) => Promise<boolean>, caller: number): Promise<void> {
    for (let i = 0; !this.stopped; i++) {
      const since = i % timedEvery === 0 ? performance.now() : 0
      this.settle(i, await ask(this.key(caller, i)), since)
      if (i % turnEvery === 0) await turn()
    }
  }

  effects(ask: (key: number) => Effect.Effect<boolean, unknown>, caller: number): Effect.Effect<void, unknown> {
    let i = 0
    let since = 0
    return Effect.whileLoop({
      while: () => !this.stopped,
      body: () => {
        since = i % timedEvery === 0 ? performance.now() : 0
        const asked = ask(this.key(caller, i))
        return i % turnEvery === 0 ? Effect.zipLeft(asked, turnEffect) : asked
      },
      step: (allowed) => {
        this.settle(i, allowed, since)
        i++
      }
    })
  }
}

/** Time that one run takes at most, in milliseconds, where other processes leave this one little. */
const longest = 1500

/** Runs for so many milliseconds of processor time, from when all callers are there. `snapshot` is taken before and after. */
export const run = async <A>(decide: Decide, load: Load, snapshot: () => Promise<A>): Promise<Yield<A>> => {
  const run = new Run(load)
  const callers = Array.from({ length: load.callers }, (_, caller) => caller)
  const all = decide._tag === "Promise"
    ? Promise.all(callers.map((caller) => run.promises(decide.ask, caller)))
    : Effect.runPromise(
      Effect.forEach(callers, (caller) => run.effects(decide.ask, caller), {
        concurrency: "unbounded",
        discard: true
      })
    )
  while (run.decisions < 2 * load.callers) await turn()
  const before = await snapshot()
  run.begin()
  const since = performance.now()
  const begun = cpu()
  while (cpu() - begun < load.millis * 1000 && performance.now() - since < longest) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const { decisions, denied, latencies } = run
  const seconds = (performance.now() - since) / 1000
  const client = (cpu() - begun) / decisions
  const after = await snapshot()
  const snapped = run.decisions
  run.stopped = true
  await all
  return { before, after, decisions, snapped, denied, seconds, client, latencies: [...latencies] }
}
