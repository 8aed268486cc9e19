import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import type { HttpResilience } from "../HttpResilience.js"
import type { Plan } from "./chain.js"

interface Named {
  readonly name: string
}

/**
 * The policies of a server, one for each name, in the scope and with the services of here. Two with different options and
 * one name are a defect, `conflict`, which is logged once: of a server that answers 500 nobody sees why.
 *
 * @internal
 */
export const makePolicies = (
  conflict: (name: string, first: string, second: string) => Error
): Effect.Effect<HttpResilience.Service, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    // In a fiber of here, or it would be made with what is around the first request, and keep that.
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    const here = <A>(build: Effect.Effect<A, never, Scope.Scope>): Effect.Effect<A> =>
      Effect.suspend(() => Effect.flatten(Fiber.await(fork(Scope.extend(build, scope)))))

    const told = new Set<string>()
    const refuse = (name: string, first: string, second: string) =>
      Effect.suspend(() => {
        const error = conflict(name, first, second)
        const tell = told.has(name) ? Effect.void : Effect.logError(error.message)
        told.add(name)
        return Effect.zipRight(
          Effect.annotateLogs(tell, { package: "@effect-resilience/http", policy: name }),
          Effect.die(error)
        )
      })

    /** Made when it is first asked for. */
    const once = <A>(build: (options: Named, plan: Plan) => Effect.Effect<A, never, Scope.Scope>) => {
      const made = new Map<string, { readonly options: Named; readonly site: string; readonly one: Effect.Effect<A> }>()
      return (options: Named, plan: Plan): Effect.Effect<A> =>
        Effect.suspend(() => {
          const known = made.get(options.name)
          if (known?.options === options) return known.one
          if (known !== undefined) return refuse(options.name, known.site, plan.site)
          return Effect.flatMap(
            Effect.cached(Effect.uninterruptible(here(build(options, plan)))),
            (one) => {
              const first = made.get(options.name) ?? { options, site: plan.site, one }
              made.set(options.name, first)
              return Effect.map(first.one, (built) => {
                // What is there need not be asked for again: to read what is cached takes a lock.
                made.set(options.name, { options, site: plan.site, one: Effect.succeed(built) })
                return built
              })
            }
          )
        })
    }

    const engine = once((_, plan) => plan.engine)
    return { engine, chain: once((options, plan) => Effect.flatMap(engine(options, plan), plan.around)) }
  })
