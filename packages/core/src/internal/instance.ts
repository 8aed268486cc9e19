import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { EventBus } from "../EventBus.js"
import type { InternalError } from "../InternalError.js"
import type { Observable } from "../Pattern.js"
import { Registry } from "../Registry.js"
import { Enforced } from "./enforced.js"
import { withStackLimit } from "./errors.js"
import type { AnyEvent } from "./event.js"
import { Emitter, Hub, observable } from "./hub.js"
import { unregistered } from "./unregistered.js"

/** What every instance has, whatever its pattern. @internal */
export interface Instance<E extends AnyEvent> {
  readonly pattern: string
  readonly name: string
  /** Whether those whom it rejects are turned away. */
  readonly enforced: boolean
  readonly emitter: Emitter<E>
  readonly observable: Observable<E | InternalError>
}

// Where this library is, so that its own frames can be told from the user's: in `dist`, or in `src` where somebody follows
// the source maps.
const meta: { readonly url?: string } = import.meta
const root = (meta.url ?? "effect-resilience/src/internal/instance.js").replace(
  /(dist|src)[\\/]internal[\\/]instance\.[jt]s.*$/,
  ""
)
const ownFolders = [root, root.replace(/^file:\/\//, "")].flatMap((folder) => [`${folder}dist`, `${folder}src`])

/** The line of the user's code that made an instance. @internal */
export const callSite = (): string => {
  const lines = withStackLimit(16, () => new Error().stack ?? "").split("\n").slice(1)
  const own = (line: string) =>
    ownFolders.some((folder) => line.includes(folder)) || /[\\/]node_modules[\\/]effect[\\/]|node:internal/.test(line)
  return (lines.find((line) => !own(line)) ?? "unknown").trim().replace(/^at /, "")
}

/**
 * Opens what an instance needs for its events: a hub of its own, and the bus where one is in the context.
 *
 * @internal
 */
export const openInstance = <E extends AnyEvent>(
  pattern: string,
  name: string
): Effect.Effect<Instance<E>, never, Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const bus = Context.getOption(context, EventBus)
    const hub = yield* Hub.make<E | InternalError>()
    const emitter = new Emitter<E>(pattern, name, hub, bus._tag === "Some" ? bus.value.hub : undefined)
    return {
      pattern,
      name,
      enforced: Context.get(context, Enforced),
      emitter,
      observable: observable<E | InternalError>(hub, emitter.subscriberFailed)
    }
  })

/** Enters the instance in the Registry, or counts it among those that none knows. @internal */
export const register = (entry: Registry.Entry): Effect.Effect<void, never, Scope> =>
  Effect.flatMap(Effect.context<never>(), (context) => {
    const registry = Context.getOption(context, Registry)
    if (registry._tag === "Some") return registry.value.register(entry)
    return Effect.acquireRelease(
      Effect.sync(() => {
        unregistered.count++
      }),
      () =>
        Effect.sync(() => {
          unregistered.count--
        })
    )
  })
