import * as Predicate from "effect/Predicate"
import type { Sourced } from "./turnedAway.js"

/** The client of a request, as far as its server tells. @internal */
export interface Peer {
  readonly isGone: () => boolean
  /** Has it run when the client goes, until that is revoked. */
  readonly onGone: (listener: () => void) => () => void
}

/** What is used of the connection of a request that came by HTTP/1.1 to Node. */
interface Connection {
  readonly destroyed: boolean
  destroy(): void
  once(type: "close", listener: () => void): unknown
}

/** @internal */
export const connectionOf = (request: Sourced): Connection | undefined => {
  const source = request.source as { readonly httpVersionMajor?: unknown; readonly socket?: Partial<Connection> | null }
  if (source.httpVersionMajor !== 1) return undefined
  return typeof source.socket?.destroy === "function" ? source.socket as Connection : undefined
}

/** One listener for each connection: many requests come by one, and a socket warns of more than ten listeners. */
const watched = new WeakMap<Connection, Set<() => void>>()

const watch = (connection: Connection): Set<() => void> => {
  const known = watched.get(connection)
  if (known !== undefined) return known
  const listeners = new Set<() => void>()
  watched.set(connection, listeners)
  connection.once("close", () => listeners.forEach((listener) => listener()))
  return listeners
}

const ofConnection = (connection: Connection): Peer => ({
  isGone: () => connection.destroyed,
  onGone: (listener) => {
    const listeners = watch(connection).add(listener)
    return () => listeners.delete(listener)
  }
})

/** What is used of an `AbortSignal`. */
interface Signal {
  readonly aborted: boolean
  addEventListener(type: "abort", listener: () => void, options: { readonly once: boolean }): void
  removeEventListener(type: "abort", listener: () => void): void
}

const ofSignal = (signal: Signal): Peer => ({
  isGone: () => signal.aborted,
  onGone: (listener) => {
    signal.addEventListener("abort", listener, { once: true })
    return () => signal.removeEventListener("abort", listener)
  }
})

const unknown: Peer = { isGone: () => false, onGone: () => () => {} }

/**
 * On Node under HTTP/1.1 a client goes with its connection; on the web a request says itself when its client is gone.
 *
 * @internal
 */
export const peerOf = (request: Sourced): Peer => {
  const connection = connectionOf(request)
  if (connection !== undefined) return ofConnection(connection)
  const { source } = request
  return Predicate.hasProperty(source, "signal") && Predicate.hasProperty(source.signal, "addEventListener")
    ? ofSignal(source.signal as Signal)
    : unknown
}
