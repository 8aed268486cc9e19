import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { RedisConnection } from "../../RedisConnection.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { realNow } from "../realTime.js"
import type { Answer, Ask } from "./settle.js"
import { answerOf, argsOf, keysOf, settle } from "./settle.js"

/** How long one that waits is believed to be there, in milliseconds. */
const patience = 2500

/** What a process asks Redis, one question at a time. @internal */
export class Questions {
  /** Among all that share the permits: a process may have several bulkheads of one name, by mistake. */
  readonly id = randomUUID()
  readonly channel: string
  /** When it asked what it has no answer to yet. */
  asked: number | undefined
  private seq = 0
  private readonly keys: ReadonlyArray<string>

  constructor(
    private readonly redis: RedisConnection.Service,
    name: string,
    private readonly settings: { readonly lease: number; readonly strict: boolean }
  ) {
    const { channel, keys } = keysOf(redis.prefix, name)
    this.channel = redis.channel(channel)
    this.keys = keys
  }

  get isFirst(): boolean {
    return this.seq === 0
  }

  /** `undefined`: the server has seen a later question. */
  send(
    ask: Pick<Ask, "keep" | "want" | "need" | "most" | "resize" | "span" | "unheard">
  ): Effect.Effect<Answer | undefined, RedisUnavailableError> {
    const { channel, id, keys, settings } = this
    this.asked = realNow()
    const args = argsOf({
      ...ask,
      id,
      seq: ++this.seq,
      lease: Math.ceil(settings.lease * 1000),
      patience: patience * 1000,
      strict: settings.strict,
      channel
    })
    const answered = Effect.sync(() => {
      this.asked = undefined
    })
    return Effect.ensuring(Effect.map(this.redis.run(settle, keys, args), answerOf), answered)
  }

  /** What it fails with when the time of the lease is over before the answer is there. */
  get noAnswer(): RedisUnavailableError {
    return this.redis.failure(settle, this.keys, "Timeout", "no answer before the end of the lease")
  }
}
