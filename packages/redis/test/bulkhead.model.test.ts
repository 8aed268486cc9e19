import type { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import calculateSlot from "cluster-key-slot"
import { Effect, FastCheck as fc } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { plan } from "../src/internal/bulkhead/plan.js"
import { answerOf, argsOf, type Ask, keysOf, settle } from "../src/internal/bulkhead/settle.js"
import { lease, patience, skewed, step } from "./utils/bulkheadStep.js"
import { scale } from "./utils/scale.js"

interface Holder {
  permits: number
  seq: number
  need: number
  asked: number
  /** Forgotten: a lease from when anybody asks next. */
  end: number | undefined
}

/** Of the keys of a bulkhead. */
interface Keys {
  readonly ends: boolean
  readonly holders: boolean
  readonly line: boolean
}

/** What the script is to do, by the rules and not by its text. */
class Model {
  readonly holders = new Map<string, Holder>()
  line: Array<{ readonly id: string; ticket: number; behind: boolean }> = []
  private tickets = 0
  /** Until when nobody is given any, where it is strict and knows the server. */
  private quiet: number | undefined
  /** What counts instead of what lasts, until then, and by whose order. */
  private over: { readonly most: number; until: number; readonly span: number; readonly by: string } | undefined

  constructor(public lasting: number) {}

  get most() {
    return this.over?.most ?? this.lasting
  }

  /** Some of its three keys are forgotten: what was in the others is still known. */
  forget({ ends, holders, line }: Keys, most: number) {
    if (holders) {
      for (const holder of this.holders.values()) {
        Object.assign(holder, { permits: 0, seq: 0, need: 0, asked: -Infinity })
      }
      this.lasting = most
      this.over = this.quiet = undefined
    }
    if (ends) {
      for (const [id, holder] of [...this.holders]) {
        holder.end = undefined
        if (holder.seq === 0) this.holders.delete(id)
      }
    }
    if (line) this.line = []
  }

  get used() {
    return [...this.holders.values()].reduce((sum, { permits }) => sum + permits, 0)
  }
  private share() {
    return Math.floor(this.most / Math.max(this.holders.size, 1))
  }
  private sorted() {
    return this.line.sort((a, b) => Number(a.behind) - Number(b.behind) || a.ticket - b.ticket)
  }

  ask({ id, keep, need: asked, resize, seq, span, strict, unheard, want }: Ask, now: number) {
    // What comes too late does nothing at all.
    if (seq <= (this.holders.get(id)?.seq ?? 0)) return undefined
    for (const [who, holder] of [...this.holders]) {
      holder.end ??= now + lease
      if (holder.end > now) continue
      this.holders.delete(who)
      this.line = this.line.filter((one) => one.id !== who)
    }
    // Where the clock was set back, neither lasts longer than it was to.
    if (strict) this.quiet = Math.min(this.quiet ?? Infinity, now + lease)
    if (this.over !== undefined) this.over.until = Math.min(this.over.until, now + this.over.span)
    const known = this.holders.get(id)
    this.order(id, resize, span, now)
    const need = Math.min(asked, this.most)
    const others = this.used - (known?.permits ?? 0)
    const lost = keep > (known?.permits ?? 0) && others + keep > this.most
    const regained = lost ? 0 : Math.max(0, keep - (known?.permits ?? 0))
    const mayBeRegained = unheard ? lost ? known?.permits ?? 0 : keep : 0
    const me = { permits: lost ? known?.permits ?? 0 : keep, seq, need, asked: now, end: now + patience }
    const latest = now + ++this.tickets
    let ticket = Math.min(this.line.find((one) => one.id === id)?.ticket ?? latest, latest)
    this.line = this.line.filter((one) => one.id !== id)
    // The dead at the front lose their place.
    for (let [first] = this.sorted(); first !== undefined; [first] = this.sorted()) {
      const asked = this.holders.get(first.id)?.asked ?? -Infinity
      if (asked <= now && asked + patience >= now) break
      this.line.shift()
    }
    this.holders.set(id, me)
    const due = () => Math.max(this.share(), need)
    const entry = () => ({ id, ticket, behind: me.permits >= due() })
    const isFirst = () => {
      const [first] = this.sorted()
      const { behind } = entry()
      return first === undefined || Number(behind) - Number(first.behind) < 0 ||
        (behind === first.behind && ticket < first.ticket)
    }
    let gained = 0
    const free = this.most - others - me.permits
    if (want > me.permits && free > 0 && isFirst() && (!strict || now >= this.quiet!)) {
      gained = Math.min(want - me.permits, free)
      if (this.line.length > 0) gained = Math.min(gained, Math.max(due() - me.permits, 1))
      me.permits += gained
      if (me.permits >= due()) ticket = now + ++this.tickets
    }
    const waits = want > me.permits
    if (waits) this.line.push(entry())
    if (me.permits > 0) me.end = now + lease
    if (me.permits === 0 && want === 0) this.holders.delete(id)
    const [first] = this.sorted()
    let spare: number | undefined
    if (first !== undefined && first.id !== id) {
      const holder = this.holders.get(first.id)!
      const part = Math.floor(this.most / this.holders.size)
      spare = holder.permits >= Math.max(part, holder.need)
        ? part + 1
        : holder.need > part && this.holders.size > 1
        ? Math.max(0, Math.floor((this.most - holder.need) / (this.holders.size - 1)))
        : part
    }
    if (this.used > this.most) spare = this.share()
    const left = this.over === undefined ? undefined : Math.ceil((this.over.until - now) / 1000)
    const limit = { most: this.most, lasting: this.lasting, left }
    return { held: me.permits, lost, ...limit, spare, waits, gained: gained + regained + mayBeRegained }
  }

  /** Changes the limit for good, or for a while; or ends what it changed for a while. */
  private order(id: string, resize: number, span: number, now: number) {
    if (this.over !== undefined && this.over.until <= now) this.over = undefined
    if (resize < 0 && this.over?.by === id) this.over = undefined
    if (resize > 0 && span > 0) this.over = { most: resize, until: now + span, span, by: id }
    if (resize > 0 && span === 0) {
      this.lasting = resize
      this.over = undefined
    }
  }
}

interface Turn {
  readonly who: number
  readonly used: number
  readonly wanted: number
  readonly need: number
  readonly pass: number
  /**
   * What goes wrong: the answer is lost, the same comes again, an earlier one comes after the time has passed, the process
   * starts anew, keys are forgotten.
   */
  readonly fault: "none" | "lost" | "again" | "late" | "crash" | "forgotten"
  readonly forgets: Keys
  readonly resize: number
  /** In seconds, as what passes. */
  readonly span: number
}

const keysThatGo: fc.Arbitrary<Keys> = fc.record({ ends: fc.boolean(), holders: fc.boolean(), line: fc.boolean() })

const turn: fc.Arbitrary<Turn> = fc.record({
  who: fc.nat(3),
  used: fc.nat(4),
  wanted: fc.nat(6),
  need: fc.integer({ min: 1, max: 4 }),
  // Now and then the server's clock is set back.
  pass: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 100, 100, 400, 400, 1100, 1100, -100, -5000),
  fault: fc.constantFrom("none", "none", "none", "none", "none", "lost", "again", "late", "late", "crash", "forgotten"),
  forgets: keysThatGo,
  resize: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 7, -1),
  span: fc.constantFrom(0, 300, 450, 2000)
})

/** A process, as far as it knows itself. */
interface Process {
  id: string
  seq: number
  held: number
  end: number
  spare: number | undefined
  unheard: boolean
}

const story = async (
  redis: RedisConnection.Service,
  most: number,
  strict: boolean,
  steps: ReadonlyArray<Turn>,
  last: Keys,
  clock: { us: number }
) => {
  const name = randomUUID()
  const { channel, keys } = keysOf(redis.prefix, name)
  const model = new Model(most)
  const fresh = (): Process => ({ id: randomUUID(), seq: 0, held: 0, end: 0, spare: undefined, unheard: false })
  const processes = [fresh(), fresh(), fresh(), fresh()]
  const common = { lease, patience, most, strict, channel }
  // Theirs is never set back.
  let local = 0
  let fence = { last: 0, at: clock.us, isKnown: true }
  let shrunk = false
  const asks = async (ask: Ask) => answerOf(await Effect.runPromise(redis.run(settle, keys, argsOf(ask))))
  const forget = async (which: Keys) => {
    model.forget(which, most)
    if (which.holders) fence.isKnown = false
    const gone = keys.filter((_, i) => [which.ends, which.holders, which.line][i])
    if (gone.length > 0) await Effect.runPromise(redis.command("del", ...gone))
  }
  for (const { fault, forgets, need, pass, resize, span, used, wanted, who } of steps) {
    clock.us += pass * 1_000_000
    local += Math.max(0, pass) * 1_000_000
    const me = processes[who]!
    if (me.end <= local) me.held = 0
    if (fault === "crash") Object.assign(me, fresh())
    if (fault === "forgotten") {
      await forget(forgets)
    }
    if (fault === "late" && model.holders.get(me.id)?.seq === me.seq) {
      const late = { ...common, keep: 0, want: 1, need: 1, id: me.id, seq: me.seq, resize: 0, span: 0, unheard: false }
      expect(model.ask(late, clock.us)).toBeUndefined()
      expect(await asks(late)).toBeUndefined()
    }
    const planned = plan({
      held: me.held,
      used: Math.min(used, me.held),
      peak: 0,
      wanted: { all: wanted, most: Math.min(need, wanted) },
      spare: me.spare,
      settled: true,
      most: model.most
    })
    const ask: Ask = {
      ...common,
      ...planned,
      id: me.id,
      seq: ++me.seq,
      resize,
      span: span * 1_000_000,
      unheard: me.unheard
    }
    me.held = planned.keep
    const answer = await asks(ask)
    const expected = model.ask(ask, clock.us)
    expect(answer !== undefined).toBe(expected !== undefined)
    if (answer === undefined || expected === undefined) continue
    const { gained, left, ...known } = expected
    expect(answer).toMatchObject(known)
    // But for the time that the test itself takes.
    expect(answer.left === undefined).toBe(left === undefined)
    if (left !== undefined) expect(Math.abs(answer.left! - left)).toBeLessThan(60_000)
    expect(answer.fence > 0).toBe(gained > 0)
    if (answer.fence > 0) {
      // But for a server that forgot the last one, and whose clock is behind it.
      if (fence.isKnown || clock.us >= fence.at) expect(answer.fence).toBeGreaterThan(fence.last)
      fence = { last: answer.fence, at: fence.isKnown ? Math.max(fence.at, clock.us) : clock.us, isKnown: true }
    }
    // What comes twice, or later than what was sent after it, does nothing.
    if (fault === "again" && model.holders.has(me.id)) expect(await asks({ ...ask, want: 100 })).toBeUndefined()
    me.unheard = fault === "lost"
    if (!me.unheard) {
      me.held = answer.held
      me.spare = answer.spare
    }
    me.end = local + lease
    // No more is used than there is: but for what an operator took away, until it is given back, and what was forgotten to
    // be held. That its end is forgotten, or who waits, gives nobody more.
    shrunk ||= resize > 0 || (fault === "forgotten" && forgets.holders)
    const inUse = processes.reduce((sum, { end, held }) => sum + (end > local ? held : 0), 0)
    if (!shrunk) expect(inUse).toBeLessThanOrEqual(most)
    expect(model.used).toBeGreaterThanOrEqual(0)
    // Nobody waits first in line for what is free.
    const [first] = model.line
    if (first !== undefined && first.id === me.id && answer.waits && !strict) {
      expect(model.used).toBeGreaterThanOrEqual(model.most)
    }
    for (const key of keys) {
      expect(Number(await Effect.runPromise(redis.command("pttl", key)))).not.toBe(-1)
    }
  }
  // All die, and keys go: what they held is free a lease after anybody asks.
  await forget(last)
  const heir = { ...common, seq: 1, keep: 0, want: 100, need: 1, resize: 0, span: 0, unheard: false }
  await asks({ ...heir, id: randomUUID() })
  // Where the clock was set back, leases end later.
  clock.us = Math.max(clock.us, ...[...model.holders.values()].map(({ end = 0 }) => end)) + 1100_000_000
  const heired = await asks({ ...heir, id: randomUUID() })
  expect(heired).toMatchObject({ held: heired!.most, waits: true })
}

describe.skipIf(inject("redisUrl") === undefined)("the step of a shared bulkhead, against a model", () => {
  it.scopedLive(
    "RB10 RB21 RB22 RN20: each answer is that of the model, no permit is given twice, all come back, and every key expires",
    () =>
      Effect.gen(function*() {
        const { clock, redis } = yield* skewed
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(
              fc.integer({ min: 1, max: 6 }),
              fc.boolean(),
              fc.array(turn, { minLength: 5, maxLength: 40 }),
              keysThatGo,
              (most, strict, steps, last) => story(redis, most, strict, steps, last, clock)
            ),
            { numRuns: scale(60, 2000) }
          )
        )
      }),
    300_000
  )
})

describe.skipIf(inject("redisUrl") === undefined)("what comes late", () => {
  it.scopedLive("RB10: finds a lease that is over, and takes no permit out of the world", () =>
    Effect.gen(function*() {
      const { asks, clock } = yield* step(3)
      expect(yield* asks({ id: "dead", seq: 1, keep: 0, want: 3 })).toMatchObject({ held: 3 })
      expect(yield* asks({ id: "b", seq: 2, keep: 0, want: 1 })).toMatchObject({ held: 0 })
      clock.us += 700_000_000
      expect(yield* asks({ id: "b", seq: 3, keep: 0, want: 1 })).toMatchObject({ held: 0 })
      clock.us += 400_000_000
      expect(yield* asks({ id: "b", seq: 2, keep: 0, want: 1 })).toBeUndefined()
      expect(yield* asks({ id: "b", seq: 4, keep: 0, want: 3 })).toMatchObject({ held: 3 })
    }))
})

describe.skipIf(inject("redisUrl") === undefined)("what is regained", () => {
  it.scopedLive("RB15: has a fence beyond those that others had meanwhile", () =>
    Effect.gen(function*() {
      const { asks, clock } = yield* step(1)
      const given = (ask: Parameters<typeof asks>[0]) => Effect.map(asks(ask), (answer) => answer!)
      const first = yield* given({ id: "a", seq: 1, keep: 0, want: 1 })
      clock.us += 1100_000_000
      const others = yield* given({ id: "b", seq: 1, keep: 0, want: 1 })
      expect(others.fence).toBeGreaterThan(first.fence)
      yield* asks({ id: "b", seq: 2, keep: 0, want: 0 })
      const back = yield* given({ id: "a", seq: 2, keep: 1, want: 1 })
      expect(back).toMatchObject({ held: 1, lost: false })
      expect(back.fence).toBeGreaterThan(others.fence)
      // Who did not hear that has another, and what was its own all the time keeps its fence.
      const again = yield* given({ id: "a", seq: 3, keep: 1, want: 1, unheard: true })
      expect(again).toMatchObject({ held: 1, lost: false })
      expect(again.fence).toBeGreaterThan(back.fence)
      expect(yield* asks({ id: "a", seq: 4, keep: 1, want: 1 })).toMatchObject({ held: 1, fence: 0 })
    }))
})

describe("the keys of a shared bulkhead", () => {
  it("are of one slot, and of no other bulkhead, whatever its name", () => {
    const names = ["a", "{", "}", "{}", "}a", "a}b", "a{b}c", "%7D", "ü", " "]
    for (const prefix of ["", "resilience:"]) {
      for (const name of names) {
        expect(new Set(keysOf(prefix, name).keys.map((key) => calculateSlot(key))).size).toBe(1)
      }
    }
    expect(new Set(names.flatMap((name) => keysOf("", name).keys)).size).toBe(names.length * 3)
  })
})

describe("the plan of a process", () => {
  const count = fc.nat(12)
  it("keeps what is used, parts with what others are due, and never wants more than there is", () => {
    fc.assert(fc.property(
      fc.record({
        held: count,
        used: count,
        peak: count,
        wanted: fc.record({ all: count, most: count }),
        spare: fc.option(count, { nil: undefined }),
        settled: fc.boolean(),
        most: fc.integer({ min: 1, max: 12 })
      }),
      (view) => {
        const { keep, limit, want } = plan(view)
        const { held, most, settled, spare, used, wanted } = view
        expect(keep).toBeLessThanOrEqual(held)
        expect(keep).toBeGreaterThanOrEqual(Math.min(held, used))
        expect(limit).toBeLessThanOrEqual(keep)
        expect(want).toBeGreaterThanOrEqual(keep)
        expect(want).toBeLessThanOrEqual(Math.max(keep, most))
        // Others wait: nothing lies idle, and nobody new is let in above its part.
        if (spare !== undefined && settled) {
          expect(limit).toBeLessThanOrEqual(Math.min(spare, used + wanted.all))
          expect(keep).toBe(Math.min(held, Math.max(used, limit)))
        }
        // Nobody waits: a call that needs a permit finds it here, as long as there is one.
        if (spare === undefined) expect(limit).toBeGreaterThanOrEqual(Math.min(held, most, used + wanted.all))
      }
    ))
  })
})
