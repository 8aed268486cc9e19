import * as Context from "effect/Context"

/** A test moves the time of the server: microseconds by which its clock is ahead. @internal */
export class Skew extends Context.Reference<Skew>()("@effect-resilience/redis/Skew", {
  defaultValue: (): (() => number) | undefined => undefined
}) {}
