import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import { Command } from "ioredis"
import { RedisConnection } from "../../RedisConnection.js"
import type { RedisEventStream } from "../../RedisEventStream.js"
import { RedisUnavailableError } from "../../RedisUnavailableError.js"
import type { Client } from "../client.js"
import { reasonOf } from "../failure.js"
import { later } from "../realTime.js"
import type { Position } from "./entry.js"
import { advance, beginning, entriesOf, entriesRead, isBefore } from "./entry.js"
import { streamKeys } from "./keys.js"

/** Milliseconds that the server holds a read without news: shorter than a connection may be silent. */
const block = 500
/** What an answer may take beyond that, until the connection is taken for dead. */
const grace = 1000
const batchSize = 500
/** Reads without news after which it looks whether the stream is still the one that it was. */
const looksEvery = 20

/** Waiting does not cure these. */
const isLasting = ({ reason }: RedisUnavailableError) => reason === "Denied" || reason === "Reply"

class Follower {
  /** Unknown until Redis was asked. */
  private position: Position | undefined
  private failures = 0
  private idle = 0

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly client: Client,
    private readonly key: string,
    private readonly from: RedisEventStream.From
  ) {}

  /** A connection that does not answer in time is taken for dead, and opened anew. */
  private ask(name: string, ...args: ReadonlyArray<string | number>): Effect.Effect<unknown, RedisUnavailableError> {
    const { client, redis } = this
    return Effect.async((resume) => {
      const failed = (reason: RedisUnavailableError["reason"], detail?: string) =>
        resume(
          new RedisUnavailableError({
            connection: redis.name,
            command: name,
            reason,
            ...(detail === undefined ? {} : { detail })
          })
        )
      const stop = later(block + grace, () => {
        client.disconnect(true)
        failed("Timeout")
      })
      client.sendCommand(
        new Command(name, [...args], { replyEncoding: "utf8" }, (error, reply) => {
          stop()
          if (error) failed(reasonOf(error), error.message)
          else resume(Effect.succeed(reply))
        })
      )
      return Effect.sync(stop)
    })
  }

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

  private readonly backOff: Effect.Effect<Chunk.Chunk<never>> = Effect.suspend(() =>
    Effect.flatMap(Random.next, (part) => {
      const millis = 10 + part * Math.min(50 * 2 ** Math.min(this.failures, 10), 2000)
      return Effect.as(Effect.sleep(millis), Chunk.empty())
    })
  )

  readonly elements: Stream.Stream<RedisEventStream.Element, RedisUnavailableError> = Stream.repeatEffectChunk(
    Effect.suspend(() => this.step).pipe(
      Effect.map((elements) => {
        this.failures = 0
        return Chunk.unsafeFromArray(elements)
      }),
      Effect.catchAll((error) => {
        this.failures++
        return isLasting(error) ? Effect.fail(error) : this.backOff
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
    return new Follower(redis, client, streamKeys(redis, stream).entries, from).elements
  }))
