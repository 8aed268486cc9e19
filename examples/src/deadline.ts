/** One deadline around several steps: each sees what is left, and nothing starts when nothing is left. */
import { Deadline } from "@effect-resilience/core"
import { Console, Duration, Effect, Option } from "effect"

const step = (name: string, millis: number) =>
  Effect.gen(function*() {
    const left = Option.match(yield* Deadline.remaining, { onNone: () => "for ever", onSome: Duration.format })
    yield* Console.log(`${name} starts, left: ${left}`)
    yield* Effect.sleep(millis)
  })

const program = Effect.gen(function*() {
  const request = Effect.zipRight(step("first", 60), Effect.zipRight(step("second", 60), step("third", 60)))
  yield* request.pipe(
    Deadline.within("100 millis"),
    Effect.catchTag("DeadlineExceededError", (error) => Console.log(error.message))
  )

  // one value, two fibers
  const instant = yield* Deadline.after("50 millis")
  const late = Effect.flip(Effect.never.pipe(Deadline.at(instant)))
  yield* Console.log((yield* Effect.all([late, late], { concurrency: 2 })).map((error) => error.reason))
})

Effect.runPromise(program)
