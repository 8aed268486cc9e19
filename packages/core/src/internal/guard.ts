import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scope from "effect/Scope"
import type { Classify, Outcome } from "../Outcome.js"
import { OptionThrewError } from "../Outcome.js"
import type { ClassifyBy, Guard } from "../Pattern.js"

/*
 * The two skeletons of a guard, and the only place where interruption is thought about.
 *
 * Both rest on one fact of Effect 3: `Ref.get`, `Ref.modify` and `Effect.sync` run together with the callback that is
 * flat-mapped onto them as one step of the run loop. Nothing runs between, no yield and no interruption: the state a
 * callback sees is current, and an event it emits is in the order of the transitions (`guard.test.ts` shows it).
 */

/** @internal */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** How an admitted call is settled. The handlers give the result back. @internal */
export interface Handlers {
  readonly onSuccess: <A>(value: A) => Effect.Effect<A>
  readonly onFailure: <E>(cause: Cause.Cause<E>) => Effect.Effect<never, E>
}

/** Runs an effect under handlers. @internal */
export const under = <A, E, R>(effect: Effect.Effect<A, E, R>, handlers: Handlers): Effect.Effect<A, E, R> => {
  const endings: {
    readonly onSuccess: (value: A) => Effect.Effect<A>
    readonly onFailure: (cause: Cause.Cause<E>) => Effect.Effect<never, E>
  } = handlers
  return Effect.matchCauseEffect(effect, endings)
}

/**
 * For whatever holds nothing: admission and settlement are not masked, which spares most of the price. A call that is
 * interrupted from outside is not settled at all.
 *
 * `choose` reads the state and answers with handlers for an admitted call, with another guard, or with the exit of a
 * rejected one. What is built for an answer is kept as long as the answer stays the same, so handlers belong in the state
 * value.
 *
 * @internal
 */
export const observe = <S, E>(state: Effect.Effect<S>, choose: (state: S) => Choice<E>): Guard<E> => (effect) => {
  const answer = answering<E>()(effect)
  return Effect.flatMap(state, (s) => answer(choose(s)))
}

/**
 * The same where the state is one object that is never replaced, such as a table: to read it anew with each call would be
 * half of the price. The decision is one step of the run loop, and has the fiber at hand.
 *
 * @internal
 */
export const observeOwned =
  <E>(choose: (fiber: Fiber.RuntimeFiber<unknown, unknown>) => Choice<E>): Guard<E> => (effect) => {
    const answer = answering<E>()(effect)
    return Effect.withFiberRuntime((fiber) => answer(choose(fiber)))
  }

type Choice<E> = Handlers | Guard<E> | Exit.Exit<never, E>

/** What goes on after a choice. It is built anew only when the choice is another. */
const answering = <E>() => <A, E1, R>(effect: Effect.Effect<A, E1, R>) => {
  let chosen: Choice<E> | undefined
  let built: Effect.Effect<A, E1 | E, R>
  return (choice: Choice<E>): Effect.Effect<A, E1 | E, R> => {
    if (choice === chosen) return built
    if (Exit.isExit(choice)) return choice
    chosen = choice
    return built = typeof choice === "function" ? choice(effect) : under(effect, choice)
  }
}

/**
 * For whatever takes a permit, a probe or a slot. `admit` runs uninterruptibly, takes, and goes on with `run` and the
 * handlers that give back; only what it puts under `restore` can be interrupted, and it must give back what it was handed
 * there. Between the taking and the handlers nothing can interrupt; the handlers run whatever happens to the effect.
 *
 * Handlers that are always the same object make the guard cheaper.
 *
 * @internal
 */
export const hold = <E>(
  admit: <A, E1, R>(
    restore: Restore,
    run: (handlers: Handlers) => Effect.Effect<A, E1, R>
  ) => Effect.Effect<A, E1 | E, R>
): Guard<E> =>
<A, E1, R>(effect: Effect.Effect<A, E1, R>) => {
  const chain = (restore: Restore): Effect.Effect<A, E1 | E, R> => {
    const body = restore(effect)
    let settling: Handlers | undefined
    let built: Effect.Effect<A, E1, R>
    return admit(restore, (handlers) => {
      if (handlers === settling) return built
      settling = handlers
      return built = under(body, handlers)
    })
  }
  // `uninterruptibleMask` would build both chains anew for each run; `interruptible` restores rightly only a caller
  // that was interruptible, so the caller's flag picks one of two chains.
  let masked: Effect.Effect<A, E1 | E, R> | undefined
  let already: Effect.Effect<A, E1 | E, R> | undefined
  return Effect.withFiberRuntime<A, E1 | E, R>((_, status) =>
    RuntimeFlags.interruption(status.runtimeFlags)
      ? masked ??= Effect.uninterruptible(chain(Effect.interruptible))
      : already ??= chain((effect) => effect)
  )
}

/**
 * Gives back when the scope closes. `Effect.addFinalizer` would also bring the `FiberRef`s of the acquisition to the
 * finalizer: it compares all of them, twice, which is dearer than all that a permit does.
 *
 * @internal
 */
export const onClose = (
  finalizer: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(
    Effect.scope,
    (scope) => Scope.addFinalizerExit(scope, (exit) => Effect.uninterruptible(finalizer(exit)))
  )

/**
 * The typed form of a guard that classifies: the exits it sees are those of the effect it is piped to.
 *
 * @internal
 */
export const classifyBy =
  <E>(guardBy: (classify: Classify) => Guard<E>): ClassifyBy<E> =>
  <A, E1>(options: { readonly classify: (exit: Exit.Exit<NoInfer<A>, NoInfer<E1>>) => Outcome }) => {
    const guard = guardBy((exit) => options.classify(exit as Exit.Exit<A, E1>))
    return <R1>(effect: Effect.Effect<A, E1, R1>) => guard(effect)
  }

/** Lets everything through. @internal */
export const passThrough: Guard = (effect) => effect

/** An outcome, or the defect of the user's function that was to tell it. @internal */
export type Reading = Outcome | OptionThrewError

/**
 * Reads the outcome of an exit. A function that throws becomes a value, so that the caller settles first and dies then.
 *
 * @internal
 */
export const read = (
  classify: Classify,
  exit: Exit.Exit<unknown, unknown>,
  pattern: string,
  instance: string
): Reading => {
  try {
    return classify(exit)
  } catch (error) {
    return new OptionThrewError(pattern, instance, "classify", error)
  }
}

/** The exit of a settled call: its own, or the defect of the function that could not read it. @internal */
export const finish = <A, E>(exit: Exit.Exit<A, E>, reading: Reading): Exit.Exit<A, E> =>
  typeof reading === "string" ? exit : Exit.die(reading)
