/** Load that does not wait for answers: a call every so often, whatever became of the ones before. */
import { Clock, Effect, type Scope } from "effect"
import { callsPerSecond } from "./script.js"
import type { Answer } from "./sides.js"

export interface Call {
  readonly phase: number
  readonly started: number
  /** Milliseconds; undefined while it runs. */
  ended: number | undefined
  answer: Answer | "failed" | undefined
}

export class Side {
  readonly calls: Array<Call> = []
  /** Requests sent, by phase: retries count. */
  readonly sent: Array<number> = []
  constructor(readonly name: "bare" | "protected") {}
}

/** Makes calls until the scope ends. `phase` tells which phase it is. */
export const load = <R>(
  side: Side,
  phase: () => number,
  call: (sent: () => void) => Effect.Effect<Answer, unknown, R>
): Effect.Effect<void, never, R | Scope.Scope> => {
  const one = Effect.flatMap(Clock.currentTimeMillis, (started) => {
    const record: Call = { phase: phase(), started, ended: undefined, answer: undefined }
    side.calls.push(record)
    const sent = () => {
      side.sent[phase()] = (side.sent[phase()] ?? 0) + 1
    }
    const end = (answer: Answer | "failed") =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        record.ended = now
        record.answer = answer
      })
    return Effect.matchCauseEffect(call(sent), { onSuccess: end, onFailure: () => end("failed") })
  })
  return Effect.asVoid(Effect.forkScoped(Effect.forever(
    Effect.zipRight(Effect.forkScoped(one), Effect.sleep(1000 / callsPerSecond))
  )))
}
