import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import type { RetryBudget } from "../RetryBudget.js"
import type { Bucket, BucketConfig } from "./bucket.js"
import * as transition from "./bucket.js"
import { now } from "./time.js"

/**
 * A retry budget: its `Bucket` in a `Ref`, the transitions in `bucket.ts`. `onChange` is told of every change.
 *
 * @internal
 */
export class Budget implements RetryBudget.Service {
  private readonly ref: Ref.Ref<Bucket>
  /** Whether a deposit would change nothing, which is the usual case and spares a call that succeeds the deposit. */
  full = true

  constructor(
    readonly name: string,
    readonly config: BucketConfig,
    private readonly onChange: (bucket: Bucket) => void = () => {}
  ) {
    const initial = transition.full(config)
    this.ref = Ref.unsafeMake(initial)
    onChange(initial)
    this.deposit = this.change((bucket) => transition.deposit(config, bucket))
    this.reset = this.change((bucket) => transition.reset(config, bucket))
    this.withdraw = Effect.map(
      Ref.modify(this.ref, (bucket) => {
        const [source, next] = transition.withdraw(config, bucket, now())
        this.changed(next)
        return [source, next]
      }),
      (source) => {
        if (source === undefined) return Option.none()
        let open = true
        const refund = this.change((bucket) => {
          if (!open) return bucket
          open = false
          return transition.refund(config, bucket, source)
        })
        return Option.some({ refund })
      }
    )
    const read = Ref.get(this.ref)
    this.available = Effect.map(read, (bucket) => transition.available(config, bucket, now()))
    this.metrics = Effect.map(read, (bucket) => ({
      tokens: bucket.tokens,
      maxTokens: config.maxTokens,
      available: transition.available(config, bucket, now()),
      offered: bucket.granted + bucket.denied,
      granted: bucket.granted,
      denied: bucket.denied,
      refunded: bucket.refunded
    }))
  }

  readonly deposit: Effect.Effect<void>
  readonly withdraw: Effect.Effect<Option.Option<RetryBudget.Reservation>>
  readonly reset: Effect.Effect<void>
  readonly available: Effect.Effect<number>
  readonly metrics: Effect.Effect<RetryBudget.Metrics>

  private change(f: (bucket: Bucket) => Bucket): Effect.Effect<void> {
    return Ref.update(this.ref, (bucket) => {
      const next = f(bucket)
      this.changed(next)
      return next
    })
  }

  private changed(bucket: Bucket): void {
    this.full = transition.isFull(this.config, bucket)
    this.onChange(bucket)
  }
}
