import type { ResilienceEvent } from "@effect-resilience/core"
import { EventBus } from "@effect-resilience/core"
import { failureLine, metric, publish } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type { Scope } from "effect/Scope"
import { randomUUID } from "node:crypto"
import { RedisConnection } from "../../RedisConnection.js"
import type { RedisEventStream } from "../../RedisEventStream.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { realNow } from "../realTime.js"
import { script } from "../script.js"
import { encodeEvent, version } from "./entry.js"
import { streamKeys } from "./keys.js"
import { Outbox } from "./outbox.js"

// KEYS: the entries, their count, the last that this publisher sent.
// ARGV: process, label, version, longest length and how exactly, life of the stream, number of the first event, events.
// A batch whose answer was lost is sent again: what is there already is left out.
const append = script(
  "events",
  `local sent = tonumber(redis.call('GET', KEYS[3]) or '0')
local n = tonumber(redis.call('GET', KEYS[2]) or '0')
local before = n
local first = tonumber(ARGV[7])
for i = 8, #ARGV do
  local seq = first + i - 8
  if seq > sent then
    n = n + 1
    sent = seq
    redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[5], ARGV[4], '*',
      'n', string.format('%.0f', n), 'p', ARGV[1], 'l', ARGV[2], 'v', ARGV[3], 'e', ARGV[i])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('SET', KEYS[2], string.format('%.0f', n), 'PX', ARGV[6])
redis.call('SET', KEYS[3], string.format('%.0f', sent), 'PX', math.min(ARGV[6], 3600000))
return n - before`
)

/** Events in one round trip. */
const batchSize = 256
/**
 * Redis trims whole nodes of 100 entries, by its default. A stream that is not much longer than that is trimmed exactly,
 * at some cost, so that none is a tenth longer than it may be.
 */
const exactBelow = 1000
/** How long closing may take for what still waits, in milliseconds. */
const patience = 500
const pattern = "RedisEventStream"

/** A batch on its way: its events, encoded, and the number of the first. */
interface Batch {
  readonly first: number
  readonly texts: ReadonlyArray<string>
}

class Publisher {
  private readonly outbox: Outbox<ResilienceEvent>
  private readonly some = Effect.unsafeMakeLatch(false)
  private readonly many = Effect.unsafeMakeLatch(false)
  private batch: Batch | undefined
  /** A connection may serve two of us. */
  private readonly id = randomUUID()
  private seq = 0
  private published = 0
  private unreadable = 0
  private missed = 0
  private failures = 0
  private droppedAtFailure = 0
  private toldDrops = false
  private readonly count: { readonly published: (by: number) => void; readonly dropped: (by: number) => void }
  private counted = 0

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly bus: EventBus.Service,
    private readonly options: RedisEventStream.Resolved
  ) {
    this.outbox = new Outbox(options.queue)
    const labels = metric.attributes(pattern, options.stream)
    this.count = {
      published: metric.counter("resilience.redis.events.published", "Events put into the stream", labels),
      dropped: metric.counter("resilience.redis.events.dropped", "Events that did not get into the stream", labels)
    }
    // Or the first is no increase to who scrapes.
    this.count.dropped(0)
  }

  private get dropped(): number {
    return this.outbox.dropped + this.unreadable + this.missed
  }

  readonly metrics: Effect.Effect<RedisEventStream.Metrics> = Effect.sync(() => ({
    published: this.published,
    dropped: this.dropped,
    waiting: this.outbox.size + (this.batch?.texts.length ?? 0),
    failing: this.failures > 0
  }))

  /** An event that the filter throws on is one that cannot be told. */
  private wants(event: ResilienceEvent): boolean {
    try {
      return this.options.filter(event)
    } catch {
      this.unreadable++
      return false
    }
  }

  hear(events: Iterable<ResilienceEvent>): void {
    for (const event of events) if (this.wants(event)) this.outbox.push(event)
    if (this.dropped > this.counted) this.some.unsafeOpen()
    if (this.outbox.size > 0) this.some.unsafeOpen()
    if (this.outbox.size >= batchSize) this.many.unsafeOpen()
  }

  /** What the bus lost before it came here. */
  miss(total: number): void {
    this.missed = total
  }

  private next(): Batch | undefined {
    if (this.batch !== undefined) return this.batch
    const texts = this.outbox.take(batchSize).flatMap((event) => {
      try {
        return [encodeEvent(event)]
      } catch {
        this.unreadable++
        return []
      }
    })
    if (this.outbox.size === 0) this.some.unsafeClose()
    if (this.outbox.size < batchSize) this.many.unsafeClose()
    if (texts.length === 0) return undefined
    this.batch = { first: this.seq + 1, texts }
    this.seq += texts.length
    return this.batch
  }

  private send({ first, texts }: Batch): Effect.Effect<void, RedisUnavailableError> {
    const { label, maxLength, stream } = this.options
    const { count, entries, sent } = streamKeys(this.redis, stream)
    const life = Math.ceil(Duration.toMillis(this.options.expireAfter))
    const { id } = this.redis
    return Effect.map(
      this.redis.run(append, [entries, count, sent(this.id)], [
        id,
        label,
        version,
        maxLength,
        maxLength < exactBelow ? "=" : "~",
        life,
        first,
        ...texts
      ]),
      () => {
        this.batch = undefined
        this.published += texts.length
        this.count.published(texts.length)
      }
    )
  }

  /** One batch of what waits, if anything does. */
  private readonly step: Effect.Effect<void, RedisUnavailableError> = Effect.suspend(() => {
    const batch = this.next()
    return batch === undefined ? Effect.void : this.send(batch)
  }).pipe(
    Effect.tap(() => this.recovered),
    Effect.tapError((error) => this.failed(error)),
    Effect.ensuring(this.account())
  )

  private account(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const news = this.dropped - this.counted
      if (news === 0) return Effect.void
      this.counted += news
      this.count.dropped(news)
      if (this.toldDrops || this.failures > 0) return Effect.void
      this.toldDrops = true
      return this.warn(
        `Some events are dropped: they come faster than they are published, or cannot be filtered or encoded`
      )
    })
  }

  private warn(text: string, error?: RedisUnavailableError): Effect.Effect<void> {
    const line = `${pattern} "${this.options.stream}": ${text}`
    return Effect.logWarning(...(error === undefined ? [line] : failureLine(line, error)))
  }

  private failed(error: RedisUnavailableError): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.failures++ > 0) return Effect.void
      this.droppedAtFailure = this.dropped
      return Effect.zipRight(
        this.warn(`events wait, the last ${this.options.queue} of them, until Redis takes them`, error),
        Effect.flatMap(Clock.currentTimeMillis, (timestamp) =>
          publish(this.bus, () => ({
            _tag: "InternalError",
            pattern,
            instance: this.options.stream,
            timestamp,
            source: "Store",
            error
          })))
      )
    })
  }

  private get recovered(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.failures === 0) return Effect.void
      this.failures = 0
      const lost = this.dropped - this.droppedAtFailure
      return Effect.logInfo(`${pattern} "${this.options.stream}": events are published again, ${lost} were dropped`)
    })
  }

  /** Full jitter, up to a second: what is asked is refused at once where Redis is known to be down. */
  private readonly backOff = Effect.suspend(() =>
    Effect.flatMap(
      Random.next,
      (part) => Effect.sleep(20 + part * Math.min(100 * 2 ** Math.min(this.failures, 4), 1000))
    )
  )

  readonly run: Effect.Effect<never> = Effect.forever(
    Effect.suspend(() => this.batch === undefined ? this.some.await : Effect.void).pipe(
      Effect.zipRight(
        Effect.suspend(() =>
          this.batch !== undefined || this.outbox.size >= batchSize
            ? Effect.void
            : Effect.timeoutOption(this.many.await, this.options.flushInterval)
        )
      ),
      Effect.zipRight(this.step),
      Effect.catchAll(() => this.backOff)
    )
  )

  /** What still waits, for as long as Redis takes it and not much longer. */
  readonly flush: Effect.Effect<void> = Effect.suspend(() => {
    const end = realNow() + patience
    return Effect.whileLoop({
      while: () => (this.batch !== undefined || this.outbox.size > 0) && realNow() < end,
      body: () => this.step,
      step: () => {}
    })
  }).pipe(Effect.ignore)
}

/** @internal */
export const openPublisher = (
  options: RedisEventStream.Resolved
): Effect.Effect<RedisEventStream.Service, never, Scope | EventBus | RedisConnection> =>
  Effect.gen(function*() {
    const bus = yield* EventBus
    const publisher = new Publisher(yield* RedisConnection, bus, options)
    const subscription = yield* bus.subscribe
    const hear = Effect.flatMap(subscription.takeBetween(1, 1024), (events) =>
      Effect.map(subscription.dropped, (dropped) => {
        publisher.miss(dropped)
        publisher.hear(events)
      }))
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(hear)))
    return yield* Effect.acquireRelease(
      Effect.forkDaemon(Effect.interruptible(publisher.run)),
      // What the bus has by now is heard first: that is a matter of turns, not of time.
      (sending) =>
        Effect.repeatN(Effect.yieldNow(), 10).pipe(
          Effect.zipRight(Fiber.interrupt(sending)),
          Effect.zipRight(publisher.flush)
        )
    ).pipe(Effect.as({ metrics: publisher.metrics }))
  })
