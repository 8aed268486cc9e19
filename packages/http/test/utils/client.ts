import { Registry } from "@effect-resilience/core"
import { ResilientHttpClient } from "@effect-resilience/http"
import { HttpClient } from "@effect/platform"
import { Effect, Layer, Schedule } from "effect"

/** Waits until something is so. */
export const eventually = <E, R>(is: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(is, Schedule.spaced("10 millis").pipe(Schedule.untilInput((so: boolean) => so))).pipe(
    Effect.timeout("4 seconds")
  )

/** What the registry says of an instance. */
export const snapshot = (pattern: string, name: string) =>
  Effect.flatMap(
    Registry,
    (registry) =>
      Effect.map(
        registry.snapshot,
        ({ instances }) => instances.find((one) => one.pattern === pattern && one.instance === name)?.metrics
      )
  )

/** Whether every permit of a client is back. */
export const isWhole = (name: string) =>
  Effect.map(snapshot("Bulkhead", name), (metrics) => JSON.stringify(metrics).includes(`"busy":[]`))

/** Retries that come at once. */
export const quick = { initialDelay: "1 millis", maxDelay: "5 millis" } as const

export const services = Layer.provideMerge(ResilientHttpClient.Live, Registry.Live)

/** The client of the context with the patterns around it. */
export const resilient = (options: ResilientHttpClient.Options) =>
  Effect.map(HttpClient.HttpClient, ResilientHttpClient.standard(options))
