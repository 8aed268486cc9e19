import * as Effect from "effect/Effect"
import type { EventBus } from "../EventBus.js"
import type { ResilienceEvent } from "../ResilienceEvent.js"

/** Puts an event on the bus that is of no instance. With nobody listening it is not built. @internal */
export const publish = ({ hub }: EventBus.Service, build: () => ResilienceEvent): Effect.Effect<void> =>
  Effect.sync(() => {
    if (hub.listeners === 0) return
    hub.built++
    hub.unsafeOffer(build())
  })
