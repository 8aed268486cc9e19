/**
 * A process of a fleet that calls a dependency all the time, through one shared breaker, and says what it sees. Times are
 * milliseconds of the machine's monotonic clock, which all processes share.
 */
import { CircuitBreaker } from "@effect-resilience/core"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { Effect, Layer } from "effect"
import { deaf } from "../utils/withoutMessages.js"

export interface Setup {
  readonly url: string
  readonly prefix: string
  readonly breaker: CircuitBreaker.Options
  readonly shared: RedisCircuitBreaker.Options
  /** It hears no message. */
  readonly cut: boolean
}

/** What the dependency does for this process from now on; of what hangs, only probes do. */
export type Order = "works" | "fails" | "hangs"

export type Said =
  | { readonly _tag: "ready" }
  | {
    readonly _tag: "state"
    readonly to: string
    readonly cause: string
    readonly at: number
    /** Timers of the last second or two that were late: when they rang, and by how much. */
    readonly lags: ReadonlyArray<readonly [at: number, late: number]>
  }
  /** A call that the dependency got although the circuit is not closed. */
  | {
    readonly _tag: "probe"
    readonly began: number
    readonly hangs: boolean
    /** Of the half-open fleet that it is a probe of; undefined for one that this process sent alone. */
    readonly epoch: number | undefined
    readonly ended?: number
  }

const say = (said: Said) => process.send?.(said)
const now = () => Number(process.hrtime.bigint()) / 1e6

const { breaker: options, cut, prefix, shared, url } = JSON.parse(process.argv[2] ?? "{}") as Setup

const lags: Array<readonly [at: number, late: number]> = []
let due = now() + 10
setInterval(() => {
  lags.push([now(), now() - due])
  if (lags.length > 150) lags.shift()
  due = now() + 10
}, 10)
/** The timer that is due now counts too. */
const late = () => [...lags, [now(), now() - due] as const].filter(([, by]) => by > 1)

let order: Order = "works"
process.on("message", (message) => {
  order = message as Order
})

const connection = RedisConnection.layer({ server: { _tag: "Standalone", url }, prefix, commandTimeout: "500 millis" })
const answer = Effect.suspend(() => order === "fails" ? Effect.fail("no") : Effect.void)

const program = Effect.gen(function*() {
  const breaker = yield* CircuitBreaker.make({ ...options, name: "fleet" })
  yield* breaker.on(
    "StateChanged",
    ({ cause, to }) => Effect.sync(() => say({ _tag: "state", to, cause, at: now(), lags: late() }))
  )
  const dependency = Effect.flatMap(breaker.metrics, ({ shared, state }) => {
    if (state === "Closed") return answer
    const epoch = shared?.state === "HalfOpen" ? shared.epoch : undefined
    const began = now()
    const hangs = order === "hangs"
    say({ _tag: "probe", began, hangs, epoch })
    return Effect.ensuring(
      hangs ? Effect.never : Effect.zipRight(Effect.sleep(15), answer),
      Effect.sync(() => say({ _tag: "probe", began, hangs, epoch, ended: now() }))
    )
  })
  const calls = Effect.forever(Effect.zipRight(Effect.exit(breaker.withBreaker(dependency)), Effect.sleep(4)))
  yield* Effect.forEach([1, 2], () => Effect.fork(calls))
  say({ _tag: "ready" })
  return yield* Effect.never
})

Effect.runFork(
  Effect.scoped(program).pipe(
    Effect.provide(RedisCircuitBreaker.layer(shared)),
    Effect.provide(cut ? Layer.provide(deaf, connection) : connection)
  )
)
