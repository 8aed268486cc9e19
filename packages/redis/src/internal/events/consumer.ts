import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { RedisConnection } from "../../RedisConnection.js"
import type { RedisEventStream } from "../../RedisEventStream.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { realNow } from "../realTime.js"
import { script } from "../script.js"
import type { Ask } from "./ask.js"
import { asking, backOff, block, isLasting } from "./ask.js"
import type { Entry } from "./entry.js"
import { elementOf, entriesOf, entriesRead } from "./entry.js"
import { streamKeys } from "./keys.js"

// KEYS: entries. ARGV: group, where it begins, life of a stream that is not there yet. A group that is there stays; why one
// cannot be made is told.
const create = script(
  "events.group",
  `local isNew = redis.call('EXISTS', KEYS[1]) == 0
for _, group in ipairs(isNew and {} or redis.call('XINFO', 'GROUPS', KEYS[1])) do
  for i = 1, #group, 2 do
    if group[i] == 'name' and group[i + 1] == ARGV[1] then return 1 end
  end
end
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if isNew then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1`
)

// KEYS: entries, dead letters. ARGV: group, consumer, idle time from which an entry is taken over, how many, deliveries
// after which it is dead, longest length and life of the dead letters.
// An entry whose consumer does not say that it is done is taken over; one that was delivered too often is put aside; one
// that was trimmed is gone. Answers with how many are dead and gone, and those taken over.
const claim = script(
  "events.claim",
  `local dead, gone, taken = 0, 0, {}
for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local id, consumer, deliveries = one[1], one[2], one[4]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    gone = gone + 1
    redis.call('XACK', KEYS[1], ARGV[1], id)
  elseif deliveries >= tonumber(ARGV[5]) then
    dead = dead + 1
    local letter = {'id', id, 'consumer', consumer, 'deliveries', deliveries}
    for _, field in ipairs(entry[2]) do table.insert(letter, field) end
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', unpack(letter))
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
    redis.call('XACK', KEYS[1], ARGV[1], id)
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)
    table.insert(taken, entry)
  end
end
return {dead, gone, taken}`
)

// KEYS: entries. ARGV: group, idle time from which a consumer is forgotten, this consumer, whether it ends.
// One that still holds entries stays: they would be lost with it.
const tidy = script(
  "events.tidy",
  `for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #one, 2 do consumer[one[i]] = one[i + 1] end
  local isOver = consumer.name == ARGV[3] and ARGV[4] == '1' or consumer.idle > tonumber(ARGV[2])
  if isOver and consumer.pending == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name) end
end
return 1`
)

/** A consumer that did not ask for so long, and holds nothing, is forgotten, in milliseconds. */
const forgottenAfter = 60_000

/** The stream was lost, and its groups with it: also while one waited for it. */
const isNoGroup = ({ detail }: RedisUnavailableError) => /NOGROUP|UNBLOCKED/.test(detail ?? "")

class Consumer<R> {
  private isKnown = false
  private from: string
  private failures = 0
  private nextClaim = 0

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly ask: Ask,
    private readonly options: RedisEventStream.ResolvedConsume,
    private readonly handle: (
      element: RedisEventStream.Event | RedisEventStream.Undecoded
    ) => Effect.Effect<unknown, unknown, R>
  ) {
    const { from } = options
    this.from = from === "now" ? "$" : from === "start" ? "0" : from
  }

  private get keys() {
    return streamKeys(this.redis, this.options.stream)
  }
  private get name(): string {
    return this.options.consumer ?? this.redis.id
  }

  private readonly enter: Effect.Effect<void, RedisUnavailableError> = Effect.suspend(() => {
    const life = Math.ceil(Duration.toMillis(this.options.expireAfter))
    return Effect.map(this.redis.run(create, [this.keys.entries], [this.options.group, this.from, life]), () => {
      this.isKnown = true
    })
  })

  private warn(text: string, ...more: ReadonlyArray<unknown>): Effect.Effect<void> {
    return Effect.logWarning(
      `RedisEventStream "${this.options.stream}", group "${this.options.group}": ${text}`,
      ...more
    )
  }

  /** What others left undone for too long, now and then. */
  private readonly claimed: Effect.Effect<ReadonlyArray<Entry>, RedisUnavailableError> = Effect.suspend(() => {
    const now = realNow()
    if (now < this.nextClaim) return Effect.succeed([])
    const { batch, claimAfter, expireAfter, group, maxDeliveries } = this.options
    const { dead: letters, entries } = this.keys
    const idle = Math.ceil(Duration.toMillis(claimAfter))
    const life = Math.ceil(Duration.toMillis(expireAfter))
    return Effect.gen(this, function*() {
      const reply = yield* this.redis.run(claim, [entries, letters], [
        group,
        this.name,
        idle,
        batch,
        maxDeliveries,
        1000,
        life
      ])
      const [dead, gone, taken] = Array.isArray(reply) ? reply : []
      // More of them may wait.
      this.nextClaim = Array.isArray(taken) && taken.length === batch ? 0 : now + idle / 2
      yield* this.redis.run(tidy, [entries], [group, forgottenAfter, this.name, 0])
      if (Number(dead) > 0) {
        yield* this.warn(`${Number(dead)} events failed ${maxDeliveries} times, and are put aside in ${letters}`)
      }
      if (Number(gone) > 0) yield* this.warn(`${Number(gone)} events were trimmed before they were dealt with`)
      return entriesOf(taken)
    })
  })

  private readonly fresh: Effect.Effect<ReadonlyArray<Entry>, RedisUnavailableError> = Effect.suspend(() =>
    Effect.map(
      this.ask(
        "xreadgroup",
        "group",
        this.options.group,
        this.name,
        "count",
        this.options.batch,
        "block",
        block,
        "streams",
        this.keys.entries,
        ">"
      ),
      entriesRead
    )
  )

  /** Each in its turn; those that are done are said to be, also where it is interrupted. */
  private deal(entries: ReadonlyArray<Entry>): Effect.Effect<void, never, R> {
    const done: Array<string> = []
    const say = Effect.suspend(() =>
      done.length === 0
        ? Effect.void
        : Effect.ignore(this.redis.command("xack", this.keys.entries, this.options.group, ...done))
    )
    return Effect.forEach(entries, (entry) =>
      Effect.suspend(() => this.handle(elementOf(entry))).pipe(
        Effect.matchCauseEffect({
          onSuccess: () => Effect.sync(() => void done.push(entry.id)),
          onFailure: (cause) => this.warn(`an event failed, and is delivered again: ${entry.id}`, cause)
        })
      ), { discard: true }).pipe(Effect.ensuring(say))
  }

  private readonly step: Effect.Effect<void, RedisUnavailableError, R> = Effect.gen(this, function*() {
    if (!this.isKnown) yield* this.enter
    yield* Effect.flatMap(this.claimed, (entries) => this.deal(entries))
    yield* Effect.flatMap(this.fresh, (entries) => this.deal(entries))
    this.failures = 0
  })

  readonly run: Effect.Effect<never, RedisUnavailableError, R> = Effect.forever(
    Effect.catchAll(this.step, (error) => {
      this.failures++
      if (isNoGroup(error)) {
        // A group of a stream that was lost begins with all that came since.
        this.isKnown = false
        this.from = "0"
        return this.failures === 1 ? Effect.void : backOff(this.failures)
      }
      return isLasting(error) ? Effect.fail(error) : backOff(this.failures)
    })
  )

  /** It will not ask again: what it holds others take over. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() =>
    Effect.ignore(this.redis.run(tidy, [this.keys.entries], [this.options.group, forgottenAfter, this.name, 1]))
  )
}

/** @internal */
export const consume = <R>(
  options: RedisEventStream.ResolvedConsume,
  handle: (element: RedisEventStream.Event | RedisEventStream.Undecoded) => Effect.Effect<unknown, unknown, R>
): Effect.Effect<never, RedisUnavailableError, RedisConnection | R> =>
  Effect.scoped(Effect.gen(function*() {
    const redis = yield* RedisConnection
    const consumer = new Consumer(redis, asking(redis, yield* redis.dedicated), options, handle)
    return yield* Effect.onExit(consumer.run, () => consumer.leave)
  }))
