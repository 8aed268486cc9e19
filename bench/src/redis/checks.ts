/** What throughput does not tell: how much of a limit leases let through, and whether a denial was a true one. */
import { Duration, Effect } from "effect"
import { busy, denying, open, requestsOf, storeOf } from "./ours.js"

export interface Leased {
  /** The part of the limit that was let through, and by how much the worst second was above what the rate allows. */
  readonly usable: number
  readonly overshoot: number
}

/** Four that lease tokens of one key, each asked for more than it can have: 10,000/s. */
export const leases = async (url: string, seconds: number): Promise<Leased> => {
  const lessees = 4
  const rate = busy
  const [request] = requestsOf(rate, "all", 1)
  const opened = await Promise.all(Array.from({ length: lessees }, () => open(url, "bench-leases:")))
  const stores = await Promise.all(opened.map((one) => storeOf(one, { leases: { maxOvershoot: 0.01 } })))
  // Until each has heard of the others.
  await new Promise((resolve) => setTimeout(resolve, 2500))
  const granted: Array<number> = []
  const begin = performance.now()
  const end = begin + seconds * 1000
  const turn = Effect.async<void>((resume) => {
    setImmediate(() => resume(Effect.void))
  })
  const caller = (store: (typeof stores)[number]) =>
    Effect.whileLoop({
      while: () => performance.now() < end,
      body: () => request === undefined ? Effect.never : Effect.zipLeft(store.decide(request), turn),
      step: (decision) => {
        if (decision.granted > 0) granted.push(performance.now())
      }
    })
  await Effect.runPromise(
    Effect.forEach(stores.flatMap((store) => Array.from({ length: 16 }, () => store)), caller, {
      concurrency: "unbounded",
      discard: true
    })
  )
  await Promise.all(opened.map(({ close }) => close()))
  granted.sort((a, b) => a - b)
  let most = 0
  for (let from = 0, to = 0; to < granted.length; to++) {
    while ((granted[to] ?? 0) - (granted[from] ?? 0) > 1000) from++
    most = Math.max(most, to - from + 1)
  }
  const bound = rate.burst + rate.limit
  return {
    usable: granted.length / (rate.burst + rate.limit * seconds),
    overshoot: Math.max(0, most / bound - 1)
  }
}

/**
 * Denials that were told again in this process, each held against what Redis says after it: one is false if Redis would let
 * the call in before the time that was told.
 */
export const denials = async (
  url: string,
  samples: number
): Promise<{ readonly told: number; readonly false: number }> => {
  const opened = await open(url)
  const cached = await storeOf(opened, {})
  const rate = { ...denying, limit: 100, window: Duration.seconds(1) }
  const requests = requestsOf(rate)
  const peeks = requestsOf(rate, "peek")
  const plain = await storeOf(opened, { batching: false, deniedFor: 0 })
  let told = 0
  let wrong = 0
  for (let i = 0; told < samples; i++) {
    const key = i % 10
    const request = requests[key]
    const peek = peeks[key]
    if (request === undefined || peek === undefined) break
    const decision = cached.decideAtOnce?.(request)
    if (decision === undefined) {
      await opened.runtime.runPromise(cached.decide(request))
      continue
    }
    told++
    const readyAt = performance.now() + Duration.toMillis(decision.wait)
    const truth = await opened.runtime.runPromise(plain.decide(peek))
    if (readyAt > performance.now() + Duration.toMillis(truth.wait)) wrong++
  }
  await opened.close()
  return { told, false: wrong }
}
