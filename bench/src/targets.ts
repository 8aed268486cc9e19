/** A comparison: the added cost of ours over that of a peer, and what it should be at most. */
export interface Comparison {
  readonly name: string
  readonly ours: string
  readonly peer: string
  readonly target?: number
  /** Ours against ours: measured with `--all` or when asked for by `--only`. */
  readonly own?: boolean
}

const to = (ours: string, peer: string, target?: number): Comparison => ({
  name: `${ours} / ${peer}`,
  ours,
  peer,
  ...(target === undefined ? {} : { target })
})

/** The same guard met in another way. */
const ways = (name: string) =>
  ["static", "built per call", "100 callers", "one local subscriber", "one bus subscriber"].map((way) => ({
    ...to(`${name}: ours, ${way}`, `${name}: ours`),
    own: true
  }))

export const comparisons: ReadonlyArray<Comparison> = [
  to("breaker: ours", "breaker: opossum", 0.8),
  to("breaker: ours", "breaker: cockatiel sampling", 2.0),
  to("floor: a Ref read and a match", "breaker: cockatiel sampling"),
  to("breaker: ours", "floor: a Ref read and a match"),
  to("breaker: ours, async body", "breaker: opossum"),
  to("breaker: ours, async body", "breaker: cockatiel sampling"),
  to("breaker: ours", "breaker: cockatiel consecutive"),
  to("breaker: ours", "breaker: stock Effect"),
  to("breaker: ours, 100 callers", "breaker: opossum, 100 callers"),
  to("breaker: ours, 100 callers", "breaker: cockatiel sampling, 100 callers"),
  to("breaker: ours, slow calls counted", "breaker: ours"),
  ...ways("breaker"),
  to("open: ours", "open: cockatiel", 0.15),
  to("open: ours", "open: opossum", 0.15),
  to("bulkhead: ours", "bulkhead: p-limit", 2.0),
  to("bulkhead: ours", "bulkhead: stock Effect", 0.27),
  to("bulkhead: ours", "floor: a mask, a Ref taken and given back"),
  to("floor: a mask, a Ref taken and given back", "bulkhead: p-limit"),
  to("bulkhead: ours, async body", "bulkhead: p-limit"),
  to("bulkhead: ours", "bulkhead: cockatiel"),
  to("bulkhead: ours, 100 callers", "bulkhead: p-limit, 100 callers"),
  ...ways("bulkhead"),
  to("full: ours", "full: cockatiel"),
  to("limiter: ours", "limiter: rate-limiter-flexible", 1.0),
  to("limiter: ours", "limiter: bottleneck"),
  to("limiter: ours", "limiter: stock Effect", 0.1),
  to("over: ours", "over: rate-limiter-flexible"),
  ...ways("limiter"),
  to("retry: ours", "retry: cockatiel", 1.2),
  to("retry: ours", "retry: stock Effect", 0.03),
  to("retry: ours, async body", "retry: cockatiel"),
  to("retry: ours, failing at once", "retry: cockatiel, failing at once"),
  to("retry: ours, failing at once", "retry: stock Effect, failing at once"),
  ...ways("retry"),
  to("timeout: ours", "timeout: cockatiel", 1.0),
  to("timeout: ours", "timeout: stock Effect", 0.45),
  to("timeout: ours, without layer", "timeout: cockatiel"),
  ...ways("timeout"),
  to("fallback: ours", "fallback: cockatiel"),
  to("fallback: ours", "fallback: stock Effect"),
  to("fallback: ours, answering", "fallback: cockatiel, answering"),
  to("fallback: ours, answering", "fallback: stock Effect, answering"),
  ...ways("fallback"),
  to("stack: ours", "stack: cockatiel", 0.9),
  to("stack: ours", "stack: stock Effect", 0.3),
  to("breaker: ours, async body", "breaker: cockatiel through its bridge", 0.2),
  to("breaker: ours, async body", "breaker: opossum through its bridge", 0.2),
  to("retry: ours, async body", "retry: cockatiel through its bridge", 0.2),
  to("bulkhead: ours, async body", "bulkhead: cockatiel through its bridge", 0.4),
  to("timeout: ours", "timeout: cockatiel through its bridge"),
  to("stack: ours", "stack: cockatiel through its bridge"),

  // No peer sheds by signals or learns a limit: beside them stands what bounds calls in another way.
  to("shedder: ours", "shedder: stock Effect"),
  to("shedder: ours", "bulkhead: p-limit"),
  to("shedder: ours", "bulkhead: cockatiel"),
  to("shed: ours", "shed: stock Effect"),
  to("shed: ours", "full: cockatiel"),
  to("shed: ours", "shed: bottleneck"),
  ...ways("shedder"),
  to("backpressure: ours", "bulkhead: stock Effect"),
  to("backpressure: ours", "bulkhead: p-limit"),
  to("backpressure: ours", "backpressure: bottleneck"),
  to("waiting: ours", "waiting: stock Effect"),
  to("waiting: ours", "waiting: p-limit"),
  to("waiting: ours", "waiting: bottleneck"),
  ...ways("backpressure"),
  to("adaptive: ours", "bulkhead: stock Effect"),
  to("adaptive: ours", "bulkhead: p-limit"),
  to("adaptive: ours", "bulkhead: cockatiel"),
  to("adaptive: ours", "bulkhead: ours"),
  to("limited: ours", "full: cockatiel"),
  ...ways("adaptive")
]
