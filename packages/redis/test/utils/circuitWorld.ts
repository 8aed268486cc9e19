import type { RedisConnection } from "@effect-resilience/redis"
import type { Effect } from "effect"
import { expect } from "vitest"
import { keysOf } from "../../src/internal/circuit/fleet.js"
import { readMessage } from "../../src/internal/circuit/link.js"
import { states } from "../../src/internal/circuit/scripts.js"
import type { Call, Setting } from "./circuitFleet.js"
import { Process } from "./circuitFleet.js"

const second = 1_000_000

/** The probes that may be sent, and those that must succeed. */
const most = 2
const need = 2
export const openFor = 4 * second

/** The server that all worlds have, one after the other. */
export interface Ground {
  readonly redis: RedisConnection.Service
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
  /** How far its clock is ahead, in microseconds. */
  skew: number
  /** Who gets its messages. */
  deliver: (message: string) => void
}

/** What was seen in all worlds: what never happens shows nothing. */
export class Seen {
  probes = 0
  closed = 0
  opened = 0
  lostLeases = 0
  alone = 0
  restarted = 0
}

const isOpen = ({ outcome }: Call) => outcome === undefined

/** A server and the processes of a fleet, and what must be so whatever happens to them. */
export class World {
  readonly calls: Array<Call> = []
  readonly processes: Array<Process> = []
  /** The states that the server had, as far as they were seen, and their epochs. */
  private readonly history: Array<{ readonly state: number; readonly epoch: number }> = []
  /** How each life was when last looked at. */
  private readonly before = new Map<Process, { readonly own: string; readonly epoch: number }>()
  /** How often the server forgot everything, and how often it had by the time of an epoch. */
  private flushes = 0
  private readonly had = new Map<number, number>()
  /** Leases that were over at any time: the server may have forgotten them. */
  private readonly over = new Set<Call>()
  private readonly setting: Setting
  private readonly keys: ReadonlyArray<string>
  private readonly channel: string

  private constructor(private readonly ground: Ground, private readonly seen: Seen) {
    const { redis } = ground
    this.channel = `${redis.prefix}cb:`
    this.keys = keysOf(this.channel, "payments", 3000)
    this.setting = {
      redis,
      breaker: {
        consecutiveFailures: 3,
        openDuration: openFor / 1000,
        halfOpenMaxCalls: most,
        successThreshold: need,
        halfOpenTimeout: "10 seconds"
      },
      shared: { probeLease: "3 seconds" },
      lease: 3.2 * second,
      calls: this.calls
    }
  }

  static readonly make = async (ground: Ground, seen: Seen, count: number): Promise<World> => {
    const world = new World(ground, seen)
    ground.skew = 0
    await world.forget()
    ground.deliver = (message) => {
      const heard = readMessage(message)
      if (heard === undefined) return
      world.history.push(heard)
      for (const { inbox } of world.processes) inbox.push(message)
    }
    for (let n = 0; n < count; n++) world.processes.push(await Process.start(world.setting))
    await world.settle()
    return world
  }

  get open(): ReadonlyArray<Call> {
    return this.calls.filter(isOpen)
  }

  private get serverNow(): number {
    return Date.now() * 1000 + this.ground.skew
  }

  private async server(): Promise<{ readonly state: number; readonly epoch: number }> {
    const { redis, run } = this.ground
    const [st, ep] = (await run(redis.command("hmget", String(this.keys[0]), "st", "ep"))) as ReadonlyArray<unknown>
    return { state: Number(st ?? 0), epoch: Number(ep ?? 0) }
  }

  /** FLUSHALL. */
  async forget(): Promise<void> {
    this.flushes++
    await this.ground.run(this.ground.redis.command("del", ...this.keys))
  }

  /** All that was asked has been done by the server, and its messages are there. */
  async settle(): Promise<void> {
    const asked = await Promise.all(this.processes.map((one) => one.settle()))
    if (!asked.includes(true)) return
    const { ground } = this
    const { deliver } = ground
    await new Promise<void>((resolve) => {
      ground.deliver = (message) => {
        if (message !== "that is all") return deliver(message)
        ground.deliver = deliver
        resolve()
      }
      void ground.run(ground.redis.command("publish", this.channel, "that is all"))
    })
  }

  /** All processes get what is there for them. */
  async hearAll(): Promise<void> {
    for (const one of this.processes) {
      while (one.inbox.length > 0) await one.hear()
      await one.hearAnswers()
    }
  }

  async pass(micros: number): Promise<void> {
    this.boundLeases()
    this.ground.skew += micros
    for (const one of this.processes) await one.pass(micros)
  }

  async restart(n: number): Promise<void> {
    await this.processes[n]!.kill()
    this.processes[n] = await Process.start(this.setting)
  }

  /** They know nothing but what they are told. */
  async restartAll(): Promise<void> {
    for (let n = 0; n < this.processes.length; n++) await this.restart(n)
    await this.settle()
    await this.hearAll()
    const { state } = await this.server()
    for (const { own } of await this.states()) expect(own).toBe(states[state])
    this.seen.restarted++
  }

  /** Two fail until they open, and all hear what comes of it. */
  async outage(): Promise<void> {
    for (const one of this.processes.slice(0, 2)) {
      for (let n = 0; n < 3; n++) {
        await one.call()
        await one.settle()
        for (const call of this.open) if (call.process === one) call.end("failure")
        await one.settle()
      }
    }
    await this.settle()
    await this.hearAll()
  }

  /** The dependency works, and each process finds that out when the time of an open circuit is over. */
  async repair(): Promise<void> {
    await this.pass(openFor)
    for (const one of this.processes) {
      await one.call()
      await one.settle()
      await this.hearAll()
      for (const call of this.open) if (call.process === one) call.end("success")
      await this.settle()
      await this.hearAll()
    }
  }

  private readonly states = () => Promise.all(this.processes.map(({ state }) => state))

  /** What must be so at any time. */
  async check(): Promise<void> {
    const { epoch, state } = await this.server()
    this.had.set(epoch, this.flushes)
    // That it is half-open is told to nobody.
    if (state === 2 && this.history.at(-1)?.epoch !== epoch) this.history.push({ state, epoch })
    for (const process of this.processes) await this.checkLife(process)
    this.checkProbes()
  }

  private async checkLife(process: Process): Promise<void> {
    const { epoch, own } = await process.state
    const was = this.before.get(process) ?? { own, epoch }
    this.before.set(process, { own, epoch })
    // What came late does not bring back what was before: only a server that forgot does.
    if (epoch < was.epoch) expect(this.flushes, "an older epoch").toBeGreaterThan(this.had.get(was.epoch) ?? -1)
    if (own !== "Closed" || was.own === "Closed") return
    const aloneWell = this.calls.some((call) =>
      call.process === process && call.state === "HalfOpen" && call.probeOf === undefined && call.outcome === "success"
    )
    const since = this.history.findIndex(({ epoch }) => epoch === was.epoch)
    const fleetClosed = this.history.slice(since + 1).some(({ state }) => state === 0)
    expect(aloneWell || fleetClosed, "a circuit closed because somebody probed").toBe(true)
  }

  /** A lease does not last longer where the clock is set back: seen before time passes, as by the server. */
  private boundLeases(): void {
    for (const call of this.calls) call.leaseEnds = Math.min(call.leaseEnds, this.serverNow + this.setting.lease)
  }

  private checkProbes(): void {
    this.boundLeases()
    for (const call of this.calls) {
      if (call.leaseEnds > this.serverNow || this.over.has(call)) continue
      this.over.add(call)
      if (isOpen(call) && call.probeOf !== undefined) this.seen.lostLeases++
    }
    const counted = this.calls.filter(({ outcome, probeOf }) => probeOf !== undefined && outcome !== "killed")
    for (const epoch of new Set(counted.map(({ probeOf }) => probeOf))) {
      const probes = counted.filter((call) => call.probeOf === epoch && !this.over.has(call))
      expect(probes.length, "probes of a half-open fleet").toBeLessThanOrEqual(most)
    }
    const told = this.history.filter(({ state }) => state !== 2)
    told.forEach(({ epoch, state }, i) => {
      if (state !== 0) return
      const before = told[i - 1]?.epoch ?? 0
      const good = counted.filter(({ outcome, probeOf = 0 }) =>
        outcome === "success" && probeOf > before && probeOf < epoch
      )
      expect(good.length, "successes of those by which it closed").toBeGreaterThanOrEqual(need)
    })
  }

  /** The faults are over, the dependency works, and what hangs ends at last: so all work again, and soon. */
  async recover(): Promise<void> {
    const { seen } = this
    seen.probes += this.calls.filter(({ probeOf }) => probeOf !== undefined).length
    seen.alone += this.calls.filter(({ probeOf, state }) => state === "HalfOpen" && probeOf === undefined).length
    seen.closed += this.history.filter(({ state }) => state === 0).length
    seen.opened += this.history.filter(({ state }) => state === 1).length
    for (const one of this.processes) {
      one.isMute = false
      await one.gap()
    }
    for (const call of this.open) call.end("success")
    for (let seconds = 0; !await this.isWell(); seconds++) {
      expect(seconds, JSON.stringify(await this.states())).toBeLessThan(16)
      await this.settle()
      await this.hearAll()
      await this.pass(second)
      await this.settle()
      await this.hearAll()
      for (const one of this.processes) {
        await one.call()
        await one.settle()
        await this.hearAll()
        for (const call of this.open) call.end("success")
        await this.settle()
        await this.hearAll()
      }
      await this.check()
    }
    for (const one of this.processes) await one.kill()
  }

  private async isWell(): Promise<boolean> {
    const all = await this.states()
    return all.every(({ fleet, own }) => own === "Closed" && fleet === "Closed") && (await this.server()).state === 0
  }
}
