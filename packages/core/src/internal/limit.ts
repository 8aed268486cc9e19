import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as RuntimeFlags from "effect/RuntimeFlags"
import type { Deadline } from "../Deadline.js"
import { deadlineOf, DeadlineTag, innermostOf, Region } from "./ambient.js"
import { withCause } from "./errors.js"
import { clockOf, forever, type Nanos } from "./time.js"
import { schedule } from "./timer.js"

/**
 * Runs an effect for at most `span`: one forked fiber for the effect, and a bare timer. Both `Timeout` and `Deadline` use
 * it.
 *
 * - With `disconnect` that fiber begins at once and not in its turn: an effect that ends without a wait needs no timer.
 *
 * - The fiber carries `instant` as its ambient deadline: it is forked anyway, so telling what runs inside costs little.
 * - Where the ambient deadline comes first no second timer is armed. It is armed after all when that deadline's region ends
 *   before this effect: it then runs in a fiber that has outlived the region.
 * - When the time is over the effect is interrupted and waited for, unless `disconnect` is set. An effect that answers
 *   all the same, because it could not be interrupted, keeps its answer: only an interruption becomes `onExpired`. What
 *   failed beside it, such as a finalizer, is the cause of that error.
 * - When the caller is interrupted, so is the effect, and the timer is gone.
 * - What the effect did to its `FiberRef`s reaches the caller, as with `Effect.timeout`.
 *
 * @internal
 */
export const limit = <A, E, R, E2 extends Error>(
  effect: Effect.Effect<A, E, R>,
  options: {
    readonly span: Nanos
    readonly instant: Deadline.Instant
    readonly disconnect: boolean
    readonly onExpired: (elapsed: Nanos) => E2
    /** Told once when the effect is about to run, and once how it ended. Neither may throw. */
    readonly onStart?: () => void
    readonly onEnd?: (exit: Exit.Exit<A, E | E2>) => void
  }
): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.withFiberRuntime<A, E | E2, R>((parent, status) => {
      const clock = clockOf(parent)
      const start = clock.unsafeCurrentTimeNanos()
      options.onStart?.()
      const nearer = deadlineOf(parent)
      const region = new Region(options.instant, innermostOf(parent))
      const own = new Own(region, parent)
      const end = (exit: Exit.Exit<A, E | E2>) => {
        options.onEnd?.(exit)
        return exit
      }
      const watch = (child: Fiber.RuntimeFiber<A, E>) => {
        // Who is first decides: the effect, the timer, or whoever interrupts the caller.
        let decided = false
        // Not the cleanup of `Effect.async`: it is lost when the fiber is interrupted between registering and waiting.
        let cancel = () => {}
        const leave = Effect.suspend((): Effect.Effect<Exit.Exit<A, E>> => {
          if (!options.disconnect) return Fiber.interrupt(child)
          child.unsafeInterruptAsFork(parent.id())
          return Effect.succeed(Exit.interrupt(parent.id()))
        })
        const expired = Effect.suspend(() => {
          const elapsed = clock.unsafeCurrentTimeNanos() - start
          return Effect.flatMap(leave, (exit): Effect.Effect<A, E | E2> =>
            exit._tag === "Failure" && Cause.isInterrupted(exit.cause)
              ? Exit.fail(carrying(options.onExpired(elapsed), exit.cause))
              : own.finished(child, exit))
        })
        const first = Effect.async<A, E | E2>((resume) => {
          const decide = (result: () => Effect.Effect<A, E | E2>) => {
            if (decided) {
              return
            }
            decided = true
            cancel()
            resume(result())
          }
          const ring = () => {
            region.disarm()
            decide(() =>
              Effect.uninterruptible(expired)
            )
          }
          const armLate = () => {
            const left = region.at >= forever ? forever : region.at - clock.unsafeCurrentTimeNanos()
            cancel = schedule(clock, left, ring)
          }
          const spared = nearer instanceof Region && nearer.at <= region.at ? nearer.relyOn(armLate) : undefined
          if (spared === undefined) armLate()
          else cancel = spared
          child.addObserver((exit) => decide(() => own.finished(child, exit)))
        })
        return Effect.matchCauseEffect(restore(first), {
          onSuccess: (value) => end(Exit.succeed(value)),
          onFailure: (cause) => {
            if (decided) return end(Exit.failCause(cause))
            decided = true
            cancel()
            region.disarm()
            return Effect.flatMap(leave, (exit) => end(Exit.failCause(withDefects(cause, exit))))
          }
        })
      }
      const body = own.run(restore(effect))
      if (!options.disconnect) return Effect.flatMap(Effect.fork(Effect.zipRight(own.enter, body)), watch)
      const child = own.start(body, status.runtimeFlags)
      const exit = child.unsafePoll()
      if (exit === null) return watch(child)
      end(exit)
      return own.finished(child, exit)
    })
  )

/** An error that carries what went wrong while the effect was interrupted. */
const carrying = <E extends Error>(error: E, cause: Cause.Cause<unknown>): E => {
  const others = [...Cause.failures(cause), ...Cause.defects(cause)]
  if (others.length === 0) return error
  return withCause(error, others.length === 1 ? others[0] : new AggregateError(others))
}

/** A cause with the defects of what was interrupted because of it. */
const withDefects = <E>(cause: Cause.Cause<E>, exit: Exit.Exit<unknown, unknown>): Cause.Cause<E> =>
  exit._tag === "Success"
    ? cause
    : Option.match(Cause.keepDefects(exit.cause), {
      onNone: () => cause,
      onSome: (defects) => Cause.sequential(cause, defects)
    })

/** A fiber of its own, for an effect that runs in a region. */
class Own {
  private readonly outside: Context.Context<never>
  private readonly inside: Context.Context<never>
  private readonly begun: FiberRefs.FiberRefs
  /** Whether the effect changed a `FiberRef`. Mostly it does not, and to join them would be dear. */
  private isChanged = false

  constructor(private readonly region: Region, private readonly parent: Fiber.RuntimeFiber<unknown, unknown>) {
    this.outside = parent.currentContext
    this.inside = Context.add(this.outside, DeadlineTag, region)
    this.begun = parent.getFiberRefs()
  }

  /** The first that the fiber does. What is cheaper than `Effect.provide` only serves a fiber of one's own. */
  get enter(): Effect.Effect<void> {
    return FiberRef.set(FiberRef.currentContext, this.inside)
  }

  /** Runs the effect, and ends the region with it. */
  run<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.matchCauseEffect(effect, {
      onSuccess: (value) => this.leave(Exit.succeed(value)),
      onFailure: (cause) => this.leave(Exit.failCause(cause))
    })
  }

  private leave<A, E>(exit: Exit.Exit<A, E>): Effect.Effect<A, E> {
    this.region.end()
    return Effect.withFiberRuntime((fiber) => {
      this.isChanged = !haveSame(this.begun, fiber.getFiberRefs())
      // The context is put back, or the caller would inherit it.
      return this.isChanged ? Effect.zipRight(FiberRef.set(FiberRef.currentContext, this.outside), exit) : exit
    })
  }

  /** Forks what `run` returned, and runs it until its first wait. It is left to itself, as by `Effect.forkDaemon`. */
  start<A, E, R>(body: Effect.Effect<A, E, R>, runtimeFlags: RuntimeFlags.RuntimeFlags): Fiber.RuntimeFiber<A, E> {
    const context = this.inside as Context.Context<R>
    const runtime = Runtime.make({ context, fiberRefs: this.begun, runtimeFlags })
    // Who has been interrupted already does not begin: the interruption comes first.
    const immediate = Cause.isEmpty(this.parent.getFiberRef(FiberRef.interruptedCause))
    return Runtime.runFork(runtime, body, { immediate })
  }

  /** How the fiber ended, and what it did to its `FiberRef`s. */
  finished<A, E>(fiber: Fiber.RuntimeFiber<A, E>, exit: Exit.Exit<A, E>): Effect.Effect<A, E> {
    return this.isChanged && !Exit.isInterrupted(exit) ? Effect.zipRight(fiber.inheritAll, exit) : exit
  }
}

/** Whether fibers have the same `FiberRef`s, but for their contexts. */
const haveSame = (one: FiberRefs.FiberRefs, other: FiberRefs.FiberRefs): boolean => {
  if (one.locals.size !== other.locals.size) return false
  for (const [ref, [[, value]]] of one.locals) {
    if (ref !== FiberRef.currentContext && other.locals.get(ref)?.[0][1] !== value) return false
  }
  return true
}
