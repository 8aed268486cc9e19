import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { RedisConnection } from "../../RedisConnection.js"
import type { RedisEventStream } from "../../RedisEventStream.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import type { Ask } from "./ask.js"
import { asking, backOff, block, isLasting } from "./ask.js"
import type { Position } from "./entry.js"
import { advance, beginning, entriesOf, entriesRead, isBefore } from "./entry.js"
import { streamKeys } from "./keys.js"

const batchSize = 500
/** Reads without news after which it looks whether the stream is still the one that it was. */
const looksEvery = 20

class Follower {
  /** Unknown until Redis was asked. */
  private position: Position | undefined
  private failures = 0
  private idle = 0

  constructor(
    private readonly ask: Ask,
    private readonly key: string,
    private readonly from: RedisEventStream.From
  ) {}

  /** The last entry of the stream. */
  private readonly end: Effect.Effect<Position, RedisUnavailableError> = Effect.suspend(() =>
    Effect.map(this.ask("xrevrange", this.key, "+", "-", "count", 1), (reply): Position => {
      const [last] = entriesOf(reply)
      return last === undefined ? { id: beginning.id, n: 0 } : { id: last.id, n: last.n }
    })
  )

  /** Where it begins, and a gap where the entry to go on from is no more. */
  private readonly begin: Effect.Effect<ReadonlyArray<RedisEventStream.Element>, RedisUnavailableError> = Effect
    .suspend(
      () => {
        const { from } = this
        if (from === "start") {
          this.position = beginning
          return Effect.succeed([])
        }
        if (from === "now") {
          return Effect.map(this.end, (end) => {
            this.position = end
            return []
          })
        }
        return Effect.map(this.ask("xrange", this.key, from, from, "count", 1), (reply) => {
          const [last] = entriesOf(reply)
          this.position = { id: from, n: last?.n }
          // It may be of another stream than there is now.
          this.idle = looksEvery
          return last === undefined && isBefore(beginning.id, from)
            ? [{ _tag: "Gap" as const, after: from, before: undefined, lost: undefined }]
            : []
        })
      }
    )

  /**
   * A stream whose end is before us is another one: of a server that took over, or one that was emptied. What comes next
   * is after its end, and its number tells what we missed.
   */
  private readonly look: Effect.Effect<void, RedisUnavailableError> = Effect.suspend(() =>
    Effect.map(this.end, (end) => {
      if (this.position !== undefined && isBefore(end.id, this.position.id)) {
        this.position = { id: end.id, n: this.position.n }
      }
    })
  )

  private readonly read = (
    from: string
  ): Effect.Effect<ReadonlyArray<RedisEventStream.Element>, RedisUnavailableError> =>
    Effect.map(
      this.ask("xread", "count", batchSize, "block", block, "streams", this.key, from),
      (reply) => {
        const [elements, position] = advance(this.position ?? beginning, entriesRead(reply))
        this.position = position
        this.idle = elements.length === 0 ? this.idle + 1 : 0
        return elements
      }
    )

  private readonly step: Effect.Effect<ReadonlyArray<RedisEventStream.Element>, RedisUnavailableError> = Effect.suspend(
    () => {
      const { failures, idle, position } = this
      if (position === undefined) return this.begin
      const isDue = failures > 0 || idle >= looksEvery
      return Effect.zipRight(
        isDue ? this.look : Effect.void,
        Effect.suspend(() => {
          if (isDue) this.idle = 0
          return this.read((this.position ?? position).id)
        })
      )
    }
  )

  readonly elements: Stream.Stream<RedisEventStream.Element, RedisUnavailableError> = Stream.repeatEffectChunk(
    Effect.suspend(() => this.step).pipe(
      Effect.map((elements) => {
        this.failures = 0
        return Chunk.unsafeFromArray(elements)
      }),
      Effect.catchAll((error) => {
        this.failures++
        return isLasting(error) ? Effect.fail(error) : Effect.as(backOff(this.failures), Chunk.empty())
      })
    )
  )
}

/** @internal */
export const follow = (
  stream: string,
  from: RedisEventStream.From
): Stream.Stream<RedisEventStream.Element, RedisUnavailableError, RedisConnection> =>
  Stream.unwrapScoped(Effect.gen(function*() {
    const redis = yield* RedisConnection
    const client = yield* redis.dedicated
    return new Follower(asking(redis, client), streamKeys(redis, stream).entries, from).elements
  }))
