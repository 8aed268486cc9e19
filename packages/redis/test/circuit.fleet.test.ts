import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { scale } from "./utils/scale.js"
import { eventually } from "./utils/until.js"
import { Worker } from "./utils/worker.js"
import type { Order, Said, Setup } from "./workers/circuit.js"

const url = inject("redisUrl")
const file = new URL("./workers/circuit.ts", import.meta.url)

const now = () => Number(process.hrtime.bigint()) / 1e6

/** A process and all that it said. */
class Member {
  readonly said: Array<Said> = []
  state = "Closed"

  constructor(readonly worker: Worker) {
    worker.child.on("message", (message) => {
      const said = message as Said
      this.said.push(said)
      if (said._tag === "state") this.state = said.to
    })
  }

  order(order: Order): void {
    this.worker.send(order)
  }
  /** How it came to be open, since then. */
  opened(since: number) {
    return this.said.find((said) => said._tag === "state" && said.to === "Open" && said.at >= since) as
      | Extract<Said, { readonly _tag: "state" }>
      | undefined
  }
  probes(since: number) {
    return this.said.filter((said) => said._tag === "probe").filter(({ began }) => began >= since)
  }
}

const fleet = (setup: Omit<Setup, "url" | "cut">, cut = false) =>
  Effect.gen(function*() {
    const text = JSON.stringify({ ...setup, cut, url: String(url) } satisfies Setup)
    const members = yield* Effect.forEach([1, 2, 3, 4], () =>
      Effect.map(Worker.start(file, text), (worker) => new Member(worker)))
    yield* until(() =>
      members.every(({ said }) => said.some(({ _tag }) => _tag === "ready")), 60)
    return members as [Member, Member, Member, Member]
  })

const until = (condition: () => boolean, seconds = 10) => eventually(String(condition), Effect.sync(condition), seconds)

/** Three fail until all are open, then all work until all are closed. */
const outage = (members: ReadonlyArray<Member>) =>
  Effect.gen(function*() {
    const began = now()
    for (const member of members.slice(0, 3)) member.order("fails")
    yield* until(() => members.every((member) => member.opened(began) !== undefined))
    for (const member of members) member.order("works")
    const openings = members.map((member) => member.opened(began)!)
    const own = openings.filter(({ cause }) => cause !== "Shared").map(({ at }) => at).sort((a, b) => a - b)
    const open = Math.max(...openings.map(({ at }) => at))
    yield* until(() => members.every(({ state }) => state === "Closed"))
    const trip = own[1] ?? open
    // Without what the event loops were late by meanwhile: the machine is not ours alone.
    const lags = openings.flatMap(({ lags }) => lags).filter(([at, late]) => at >= trip && at - late <= open)
    const lag = Math.max(0, ...lags.map(([, late]) => late))
    return { raw: open - trip, delay: Math.max(0, open - trip - lag), probes: probesOf(members, trip) }
  })

/** The probes since a moment, by the epoch that they are of: how many, how many at once, and how many no fleet knew of. */
const probesOf = (members: ReadonlyArray<Member>, since: number) => {
  const all = members.flatMap((member) => member.probes(since))
  const begun = all.filter(({ ended }) => ended === undefined)
  const counts = [...new Set(begun.map(({ epoch }) => epoch))].filter((epoch) => epoch !== undefined).map((epoch) => {
    const of = begun.filter((probe) => probe.epoch === epoch)
    const ends = all.flatMap((probe) => probe.epoch === epoch && probe.ended !== undefined ? [probe.ended] : [])
    const inFlight = (at: number) =>
      of.filter(({ began }) => began <= at).length - ends.filter((end) => end < at).length
    return { sent: of.length, atOnce: Math.max(...of.map(({ began }) => inFlight(began))) }
  })
  return {
    sent: Math.max(0, ...counts.map(({ sent }) => sent)),
    atOnce: Math.max(0, ...counts.map(({ atOnce }) => atOnce)),
    alone: begun.filter(({ epoch }) => epoch === undefined).length
  }
}

const quantile = (values: ReadonlyArray<number>, q: number) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))]!

const figures = (millis: ReadonlyArray<number>) =>
  `p50 ${quantile(millis, 0.5).toFixed(1)} ms, p99 ${quantile(millis, 0.99).toFixed(1)} ms of ${millis.length}`

const told = (text: string) => process.stderr.write(`${text}\n`)

const lease = 1500

const opensAndRecovers = Effect.gen(function*() {
  const members = yield* fleet({
    prefix: `cf${process.pid}-push:`,
    breaker: { openDuration: "300 millis", halfOpenMaxCalls: 2, successThreshold: 2 },
    shared: { probeLease: lease }
  })
  const [sick, ...others] = members
  const begin = now()
  sick.order("fails")
  // It opens, and opens again after its own probes, while all others go on.
  yield* until(() => sick.said.filter((said) => said._tag === "state" && said.to === "Open").length >= 3)
  for (const other of others) expect(other.said.filter(({ _tag }) => _tag === "state")).toEqual([])
  expect(sick.said.some((said) => said._tag === "state" && said.cause === "Shared")).toBe(false)
  sick.order("works")
  yield* until(() => sick.state === "Closed")
  expect(sick.opened(begin)?.cause).toBe("ConsecutiveFailures")

  const raw: Array<number> = []
  const delays: Array<number> = []
  const probes: Array<ReturnType<typeof probesOf>> = []
  for (let n = 0; n < scale(5, 200); n++) {
    const one = yield* outage(members)
    raw.push(one.raw)
    delays.push(one.delay)
    probes.push(one.probes)
  }
  told(`from the trip until all reject: ${figures(delays)}; with the lag of the event loops ${figures(raw)}`)
  const most = (of: (one: ReturnType<typeof probesOf>) => number) => Math.max(...probes.map(of))
  const alone = probes.map((one) => one.alone)
  told(`probes of a recovery of the fleet: at most ${most((one) => one.sent)}, at once ${most((one) => one.atOnce)}`)
  told(`probes of a process that Redis did not answer in time: ${alone.reduce((sum, n) => sum + n, 0)}`)
  expect(most((one) => one.sent)).toBe(2)
  expect(most((one) => one.atOnce)).toBeLessThanOrEqual(2)
  // On a machine that is busy a process may wait in vain for Redis, and probes alone.
  expect(quantile(alone, 0.5)).toBe(0)
  // Of few, the worst is the machine's: it is judged by many.
  expect(quantile(delays, scale(0.5, 0.99))).toBeLessThan(50)
  yield* losesAnOwner(members)
})

/** The owner of a probe is killed while its probe hangs; the others work. */
const losesAnOwner = (members: ReadonlyArray<Member>) =>
  Effect.gen(function*() {
    const began = now()
    for (const member of members) member.order("fails")
    yield* until(() => members.every((member) => member.opened(began) !== undefined))
    for (const member of members) member.order("hangs")
    const owns = (member: Member) => member.probes(began).some(({ hangs }) => hangs)
    yield* until(() => members.some(owns))
    const owner = members.find(owns)!
    const rest = members.filter((member) => member !== owner)
    owner.worker.child.kill("SIGKILL")
    for (const member of rest) member.order("works")
    const killed = now()
    yield* until(() => rest.every(({ state }) => state === "Closed"))
    const closings = rest.flatMap(({ said }) =>
      said.flatMap((one) => one._tag === "state" && one.to === "Closed" && one.at > killed ? [one] : [])
    )
    // A process that lives has 0.2 s to say that its probe took too long.
    const over = owner.probes(began).find(({ hangs }) => hangs)!.began + lease + 200
    // The other place serves one probe, and two must succeed.
    const closed = Math.min(...closings.map(({ at }) => at))
    const lag = Math.max(0, ...closings.flatMap(({ lags }) => lags).flatMap(([at, late]) => at > over ? [late] : []))
    told(`closed ${(closed - over).toFixed(0)} ms after the lease of the killed was over, lag ${lag.toFixed(0)} ms`)
    expect(closed - over).toBeGreaterThan(-200)
    // Where the probe of another hung too, that one failed, and they were open once more.
    const again = rest.some(owns) ? 600 : 0
    expect(closed - over - lag).toBeLessThan(200 + 150 + again)
    const { atOnce, sent } = probesOf(members, began)
    // One more than two, for the one that never came back.
    expect(sent).toBeLessThanOrEqual(4)
    expect(atOnce).toBeLessThanOrEqual(4)
  })

const hearsNoMessage = Effect.gen(function*() {
  const members = yield* fleet({
    prefix: `cf${process.pid}-poll:`,
    breaker: { openDuration: "1500 millis", halfOpenMaxCalls: 2, successThreshold: 2 },
    shared: {}
  }, true)
  const delays: Array<number> = []
  for (let n = 0; n < scale(1, 30); n++) {
    const { delay, probes } = yield* outage(members)
    delays.push(delay)
    expect(probes.sent).toBe(2)
  }
  told(`from the trip until all reject, by asking alone: ${figures(delays)}`)
  expect(Math.max(...delays)).toBeLessThan(1100)
})

describe.skipIf(url === undefined)("four processes with one circuit", () => {
  it.scopedLive(
    "RC1 RC3 RC4: one opens itself, three open all, all have one set of probes",
    () => opensAndRecovers,
    300_000
  )
  it.scopedLive("RC6: hear of it within 1.1 s where no message comes through", () => hearsNoMessage, 240_000)
})
