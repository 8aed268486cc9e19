import { EventBus, Fleet, Registry, ResilienceLive } from "@effect-resilience/core"
import { toWire } from "@effect-resilience/core/extension"
import { Context, Duration, Effect, Layer, Option, Ref, Stream } from "effect"

interface Seen {
  readonly status: Fleet.Status
  readonly age: Duration.DurationInput
}

/** One process of the fleet: its own registry and bus, and how it is seen. */
export interface Member {
  readonly label: string
  readonly status: Ref.Ref<Seen>
  /** Runs as that process. */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Registry | EventBus>>
}

const recordOf = (value: unknown) => toWire(value) as Readonly<Record<string, unknown>>

/** A fleet in one process, the first of whose members is the one that looks. */
export const openFleet = (...labels: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const members = yield* Effect.forEach(labels, (label) =>
      Effect.gen(function*() {
        const context = yield* Layer.build(Layer.fresh(ResilienceLive))
        const status = yield* Ref.make<Seen>({ status: "Live", age: 0 })
        return { label, context, status, within: Effect.provide(context) } as Member & {
          readonly context: Context.Context<Registry | EventBus>
        }
      }))
    const problem = yield* Ref.make(Option.none<string>())
    const processes = Effect.forEach(members, ({ context, label, status }) =>
      Effect.gen(function*() {
        const { instances } = yield* Context.get(context, Registry).snapshot
        const seen = yield* status
        return {
          id: `id of ${label}`,
          label,
          status: seen.status,
          age: Duration.decode(seen.age),
          omitted: 0,
          problem: Option.none(),
          instances: seen.status === "Gone" ? [] : instances.map(({ instance, metrics, pattern, settings }) => ({
            pattern,
            instance,
            metrics: recordOf(metrics),
            settings: settings === undefined ? null : recordOf(settings)
          }))
        }
      }))
    const fleet: Fleet.Service = {
      self: `id of ${labels[0]}`,
      view: Effect.flatMap(problem, (problem) =>
        Effect.map(processes, (processes) => ({
          problem,
          processes: Option.isSome(problem) ? processes.slice(0, 1) : processes
        }))),
      events: Stream.mergeAll(
        members.map(({ context, label }) =>
          Stream.map(Context.get(context, EventBus).events, (event) => ({ process: `id of ${label}`, label, event }))
        ),
        { concurrency: "unbounded" }
      )
    }
    const [own] = members
    if (own === undefined) return yield* Effect.dieMessage("a fleet has a process at least")
    return {
      members: members as ReadonlyArray<Member>,
      problem,
      live: Layer.merge(Layer.succeedContext(own.context), Layer.succeed(Fleet, fleet))
    }
  })
