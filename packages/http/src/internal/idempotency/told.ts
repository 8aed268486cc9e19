import { failureLine, metric } from "@effect-resilience/core/extension"
import * as Effect from "effect/Effect"

/**
 * What became of a response that is to be repeated: kept at once, or when its store was back; not kept, so that its request
 * may be carried out again; or its key was another's by then, whose request was carried out too.
 *
 * @internal
 */
export type Kept = "kept" | "kept_later" | "not_kept" | "lease_lost"

const meanings = {
  not_kept:
    "a request was carried out, and its store did not keep the response: where it is repeated it may be carried " +
    "out again, when the lease of its key is over",
  lease_lost:
    "a request was carried out for longer than the lease of its key, which could not be renewed: another one " +
    "with the key was carried out meanwhile, or is"
}

const lineOf = (text: string, why: unknown): ReadonlyArray<unknown> =>
  why === undefined ? [text] : typeof why === "string" ? [`${text}: ${why}`] : failureLine(text, why)

/** What is told of the requests with a key. @internal */
export interface Told {
  readonly request: (outcome: string) => Effect.Effect<void>
  /** `shown` is the key, as it may be shown. Of each response that is lost there is a warning: somebody may be charged twice. */
  readonly response: (kept: Kept, shown: string, why?: unknown) => Effect.Effect<void>
}

const counters = (name: string, what: string, help: string, label: string) => {
  const made = new Map<string, () => void>()
  return (value: string): void => {
    let count = made.get(value)
    if (count === undefined) {
      const up = metric.counter(what, help, metric.attributes("Idempotency", name, { [label]: metric.snake(value) }))
      made.set(value, count = () => up())
    }
    count()
  }
}

/** @internal */
export const tellOf = (name: string): Told => {
  const requests = counters(
    name,
    "resilience.idempotency.requests",
    "Requests with an idempotency key, or without the one they need, by outcome",
    "outcome"
  )
  const responses = counters(
    name,
    "resilience.idempotency.responses",
    "Responses that are to be repeated, by whether the store has kept them",
    "result"
  )
  return {
    request: (outcome) => Effect.sync(() => requests(outcome)),
    response: (kept, shown, why) =>
      Effect.suspend(() => {
        responses(kept)
        return kept === "kept" || kept === "kept_later" ? Effect.void : Effect.annotateLogs(
          Effect.logWarning(...lineOf(`Idempotency "${name}": ${meanings[kept]}`, why)),
          { package: "@effect-resilience/http", pattern: "Idempotency", instance: name, key: shown }
        )
      })
  }
}
