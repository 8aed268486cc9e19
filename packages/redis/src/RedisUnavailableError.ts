/**
 * What all services of this package fail with when Redis does not do what it is asked.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { saysAbsent } from "./internal/outage.js"

/**
 * Redis did not do what was asked, as far as is known: after `"Timeout"` and `"Disconnected"` it may have, and nothing
 * sends it again.
 *
 * - `"Timeout"`: no answer within `commandTimeout`. `"Late"`: the server saw it after that, and did nothing.
 * - `"NotReady"`: there is no connection now. `"Disconnected"`: it broke before the answer.
 * - `"Down"`: it failed so often that it is not asked; a probe finds out when that is over.
 * - `"ReadOnly"`, `"OutOfMemory"`, `"Loading"`, `"Busy"`, `"ClusterDown"`, `"Denied"`: what the server said.
 * - `"Reply"`: another error that the server said.
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisUnavailableError
  extends Schema.TaggedError<RedisUnavailableError>("@effect-resilience/redis/RedisUnavailableError")(
    "RedisUnavailableError",
    {
      /** The name of the connection. */
      connection: Schema.String,
      /** Where the server is, as far as that is known, for people to read: host and port, a socket, nodes of a cluster. */
      server: Schema.optional(Schema.String),
      /** The command, or the script. */
      command: Schema.String,
      reason: Schema.Literal(
        "Timeout",
        "Late",
        "NotReady",
        "Disconnected",
        "Down",
        "ReadOnly",
        "OutOfMemory",
        "Loading",
        "Busy",
        "ClusterDown",
        "Denied",
        "Reply"
      ),
      /** What happened, as the server says it or the connection. */
      detail: Schema.optional(Schema.String)
    }
  )
{
  /**
   * What it is told as: `"Absent"` by all reasons that say that the server is not there, which come and go during one
   * outage, and otherwise the reason.
   */
  get kind(): string {
    return this.reason === "Down" || this.reason === "Late" || saysAbsent(this.reason) ? "Absent" : this.reason
  }

  override get message(): string {
    const at = this.server === undefined ? "" : ` at ${this.server}`
    const said = this.detail === undefined ? "" : `: ${this.detail}`
    return `Redis "${this.connection}"${at}: ${this.command} failed (${this.reason})${said}`
  }
}
