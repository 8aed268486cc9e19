import * as Context from "effect/Context"
import { constTrue } from "effect/Function"

/**
 * Whether those whom an instance rejects are really turned away, read when it is built. In a dry run they are not: its
 * place lets them through, and its metrics say so.
 *
 * @internal
 */
export class Enforced extends Context.Reference<Enforced>()("@effect-resilience/Enforced", {
  defaultValue: constTrue
}) {}
