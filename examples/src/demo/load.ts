/** Load that does not wait for answers: calls every so often, whatever became of the ones before. */
import { Priority } from "@effect-resilience/core"
import { Clock, Effect, type Scope } from "effect"
import { type Phase, ticksPerSecond } from "./script.js"
import type { Answer } from "./sides.js"

export interface Call {
  readonly phase: Phase
  readonly priority: Priority.Level
  readonly started: number
  /** Milliseconds; undefined while it runs. */
  ended: number | undefined
  answer: Answer | "failed" | undefined
}

export class Side {
  readonly calls: Array<Call> = []
  /** Requests sent, by phase: retries count. */
  readonly sent = new Map<Phase, number>()
  constructor(readonly name: "bare" | "protected") {}
}

/** One call in six is critical, two are normal, three could be done without. */
const mix: ReadonlyArray<Priority.Level> = ["critical", "normal", "sheddable", "sheddable", "normal", "sheddable"]

/** Makes calls until the scope ends. `phase` tells which phase it is. */
export const load = <R>(
  side: Side,
  phase: () => Phase,
  call: (sent: () => void) => Effect.Effect<Answer, unknown, R>
): Effect.Effect<void, never, R | Scope.Scope> => {
  const one = Effect.flatMap(Clock.currentTimeMillis, (started) => {
    const priority = mix[side.calls.length % mix.length] ?? "normal"
    const record: Call = { phase: phase(), priority, started, ended: undefined, answer: undefined }
    side.calls.push(record)
    const sent = () => {
      side.sent.set(phase(), (side.sent.get(phase()) ?? 0) + 1)
    }
    const end = (answer: Answer | "failed") =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        record.ended = now
        record.answer = answer
      })
    return call(sent).pipe(
      Priority.within(priority),
      Effect.matchCauseEffect({ onSuccess: end, onFailure: () => end("failed") })
    )
  })
  const tick = Effect.suspend(() =>
    Effect.replicateEffect(Effect.forkScoped(one), phase().callsPerSecond / ticksPerSecond)
  )
  return Effect.asVoid(Effect.forkScoped(Effect.forever(
    Effect.zipRight(tick, Effect.sleep(1000 / ticksPerSecond))
  )))
}
