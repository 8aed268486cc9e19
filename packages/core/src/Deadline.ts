/**
 * The ambient deadline of a region.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import { deadlineKey } from "./internal/ambient.js"

/**
 * @since 0.1.0
 * @category references
 */
export class Deadline extends Context.Reference<Deadline>()(deadlineKey, {
  defaultValue: (): Deadline.Instant | undefined => undefined
}) {}

/**
 * @since 0.1.0
 */
export declare namespace Deadline {
  /**
   * An absolute point of the monotonic clock, and who set it: `"own"` code, or the `"caller"` of this service. A
   * deadline that the caller imposed never counts against a dependency.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Instant {
    readonly at: bigint
    readonly origin: "own" | "caller"
  }
}
