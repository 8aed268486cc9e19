import type { RedisConnection } from "../RedisConnection.js"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import { Waiting } from "./inflight.js"
import type { Peer } from "./peer.js"
import type { Script } from "./script.js"

/** @internal */
export type Settled = (error: RedisUnavailableError | undefined, reply: RedisConnection.Reply) => void

/** @internal */
export type Args = Array<string | number>

/** Who is told what became of a command. */
interface Asker {
  readonly answered: (ask: Ask, error: Error | null | undefined, reply: unknown) => void
  readonly expired: (ask: Ask, closed: boolean) => void
}

/** A command on its way, and who asked for it. @internal */
export class Ask extends Waiting {
  constructor(
    private readonly asker: Asker,
    readonly peer: Peer,
    /** What it is called in errors. */
    readonly label: string,
    readonly args: Args,
    readonly settle: Settled,
    readonly script: Script | undefined,
    now: number
  ) {
    super(now)
  }
  readonly answered = (error: Error | null | undefined, reply: unknown): void => {
    if (!this.settled) this.asker.answered(this, error, reply)
  }
  expire(closed: boolean): void {
    this.asker.expired(this, closed)
  }
}
