// Compiled against the declarations of program.ts alone: they must name nothing that the packages hide.
import { Effect, type Layer } from "effect"
import { charge, type Hosts, type Live, type Payments, Reports } from "./program.js"

export const again: Effect.Effect<
  string,
  Effect.Effect.Error<ReturnType<typeof charge>>,
  Payments | Reports | Effect.Effect.Context<ReturnType<typeof charge>>
> = charge("1")
export const guarded = Effect.succeed(1).pipe(Reports.withPermit)
export type Provided = Layer.Layer.Success<typeof Live> extends infer P
  ? Payments extends P ? Hosts extends P ? true : false : false
  : false
export const provided: Provided = true
